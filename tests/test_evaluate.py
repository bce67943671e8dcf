"""Evaluation and calibration: from a data set to metrics, pages and probabilities."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import drawn
import numpy as np
import pytest
from browser import CHROMIUM, check_page
from drawn_sets import vehicleid

from multitasknet import DataError, ImageError, Predictor, load_card
from multitasknet.cli import main
from multitasknet.data.layouts import read_dataset
from multitasknet.data.records import Record, Split
from multitasknet.evaluation.embedding import embed_records
from multitasknet.evaluation.report import retrieval_panels, write_evaluation_report
from multitasknet.evaluation.results import attribute_result, card_metrics
from multitasknet.evaluation.run import evaluate
from multitasknet.ranking.centering import center_cameras
from multitasknet.ranking.metrics import evaluate_embeddings, evaluate_ranking

PLAN = drawn.plan()
SIZE = (32, 32)


@pytest.fixture(scope="module")
def predictor(checkpoint) -> Predictor:
    return Predictor(checkpoint, size=SIZE, batch_size=4)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn.pamtri(tmp_path_factory.mktemp("data") / "pamtri", PLAN)


@pytest.fixture(scope="module")
def dataset(root):
    return read_dataset(root, ["query", "gallery"])


def run(predictor, dataset, **options):
    return evaluate(predictor, dataset, progress=False, **options)


def test_evaluation_imports_no_mindspore() -> None:
    code = "import sys, multitasknet.evaluation.report, multitasknet.evaluation.run as run; "
    code += "import multitasknet.evaluation.pose_report; print('mindspore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_figures_are_the_protocols(predictor, dataset) -> None:
    evaluation = run(predictor, dataset, rerank=True)
    query, gallery = evaluation.query.embeddings, evaluation.gallery.embeddings
    distances = ((query[:, None].astype(np.float64) - gallery[None]) ** 2).sum(axis=2)
    splits = dataset.query, dataset.gallery
    ids, cameras = ([getattr(s, name) for s in splits] for name in ("vehicle_ids", "camera_ids"))
    expected = evaluate_ranking(distances, *ids, *cameras)
    metrics = evaluation.metrics
    assert metrics["mAP"] == pytest.approx(100 * expected.mAP)
    assert metrics["Rank-5"] == pytest.approx(100 * expected.rank(5))
    ranks = [f"Rank-{k}" for k in (1, 5, 10, 20)]
    assert list(metrics) == ["mAP", "mINP", *ranks, "color", "type"]
    assert set(evaluation.reranked_metrics) == set(metrics) - {"color", "type"}
    named = np.concatenate([evaluation.query.colors, evaluation.gallery.colors])
    truth = [one.color - 1 for split in ("query", "gallery") for one in PLAN if one.split == split]
    assert metrics["color"] == pytest.approx(100 * np.mean(named == truth))
    again = run(predictor, dataset)
    assert again.metrics == metrics
    np.testing.assert_array_equal(again.query.embeddings, query)


def test_camera_means_are_taken_away_over_query_and_gallery(predictor, dataset, tmp_path) -> None:
    with pytest.raises(DataError, match="none of the cameras of 18 images took 50"):
        run(predictor, dataset, center_cameras=True)
    root = drawn.pamtri(tmp_path, drawn.plan(vehicles=10, images=4))
    data = read_dataset(root, ["query", "gallery"])
    plain, evaluation = (run(predictor, data, center_cameras=one) for one in (False, True))
    splits = data.query, data.gallery
    expected = center_cameras(
        np.concatenate([plain.query.embeddings, plain.gallery.embeddings]),
        np.concatenate([one.camera_ids for one in splits]),
    )
    ids, cameras = ([getattr(s, name) for s in splits] for name in ("vehicle_ids", "camera_ids"))
    found = evaluate_embeddings(expected[:20], expected[20:], *ids, *cameras)
    assert evaluation.metrics["mAP"] == pytest.approx(100 * found.mAP)
    assert evaluation.settings["center_cameras"] and not plain.settings["center_cameras"]


def test_embeddings_of_records_are_those_of_their_pictures_and_poses(predictor, dataset) -> None:
    records = dataset.query.records
    found = embed_records(predictor, records, progress=False)
    paths, poses = [r.image for r in records], [r.keypoints for r in records]
    np.testing.assert_allclose(found.embeddings, predictor.embed(paths, poses), atol=1e-5)
    assert found.poses == {"given": len(records)}
    assert len(set(found.sha256)) == len(records)


def test_pictures_that_are_missing_or_damaged_are_named(predictor, tmp_path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    records = [Record(tmp_path / name, 0, origin="x.csv:1") for name in ("gone.jpg", "bad.jpg")]
    with pytest.raises(DataError, match=r"x\.csv:1: image .*gone\.jpg does not exist"):
        embed_records(predictor, records, progress=False)
    with pytest.raises(ImageError, match=r"bad\.jpg: the image cannot be read"):
        embed_records(predictor, records[1:], progress=False)


@pytest.mark.parametrize(("name", "found"), [("0101_c001_5_0.jpg", 0), ("car.jpg", 1)])
def test_queries_that_find_themselves_are_found_by_content(
    predictor, tmp_path, caplog, name, found
) -> None:
    """Market's form of names, whose camera once was unknown, and names without any."""
    root = tmp_path / "market"
    shutil.copytree(drawn.veri(tmp_path / "veri", PLAN) / "image_query", root / "crops")
    images = sorted((root / "crops").iterdir())
    copy = shutil.copy(images[0], root / name)
    rows = [f"crops/{image.name},{image.name[:4]}" for image in images[1:]]
    (root / "gallery.csv").write_text("\n".join(["image,vehicle_id", f"{name},0101", *rows]))
    (root / "query.csv").write_text(f"image,vehicle_id\ncrops/{images[0].name},0101\n")
    assert Path(copy).read_bytes() == images[0].read_bytes()
    run(predictor, read_dataset(root, ["query", "gallery"]))
    assert ("1 of the queries are in the gallery themselves" in caplog.text) == bool(found)


def test_market_names_leave_a_querys_own_camera_out(predictor, tmp_path) -> None:
    source = drawn.veri(tmp_path / "veri", PLAN)
    for split, folder in (("query", "query"), ("test", "bounding_box_test")):
        (tmp_path / folder).mkdir()
        for image in (source / f"image_{split}").iterdir():
            shutil.copy(image, tmp_path / folder / re.sub(r"_c0*(\d)", r"_c\1s1", image.name))
    by_market, by_veri = (
        run(predictor, read_dataset(root, ["query", "gallery"])) for root in (tmp_path, source)
    )
    assert by_market.metrics["mAP"] == pytest.approx(by_veri.metrics["mAP"])


def test_vehicleid_is_evaluated_by_its_own_protocol(checkpoint, tmp_path, capsys) -> None:
    line = ["evaluate", "--data", str(vehicleid(tmp_path / "data")), "--weights", str(checkpoint)]
    line += ["--size", "32", "--pose", "none", "--output", str(tmp_path / "out")]
    assert main([*line, "--test-size", "1600"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["percent", "data", "deviation"]
    assert any(row.startswith("VehicleID's protocol") for row in rows)
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (written["valid_queries"], written["settings"]["not_comparable"]) == (2, [])
    assert written["settings"]["layout"] == "VehicleID, tested on 1600 vehicles (not 800)"
    assert written["deviations"].keys() == written["metrics"].keys() - {"color", "type"}
    assert main([*line, "--protocol", "veri"]) == 0
    assert "the protocol of this data set is vehicleid." in capsys.readouterr().out


def test_metrics_json_states_what_the_figures_belong_to(predictor, dataset, tmp_path) -> None:
    evaluation = run(predictor, dataset, output=tmp_path)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["metrics"] == pytest.approx(evaluation.metrics)
    # Three vehicles are too few for an interval.
    assert written["intervals"] == {name: [None, None] for name in evaluation.metrics}
    assert {one["queries"] for one in written["breakdown"]["view"].values()} <= {*range(1, 7)}
    settings = written["settings"]
    assert settings["weights_sha256"] == predictor.engine.weights_sha256
    assert (settings["variant"], settings["poses"]) == ("segment", "given")
    assert settings["versions"]["numpy"] == np.__version__
    assert len(written["cmc"]) == 50


def test_without_labelled_colours_and_poses_there_are_no_such_figures(predictor, dataset) -> None:
    def bare(split: Split) -> Split:
        unknown = {"color_id": None, "type_id": None, "keypoints": None}
        return replace(split, records=tuple(replace(one, **unknown) for one in split.records))

    data = replace(dataset, query=bare(dataset.query), gallery=bare(dataset.gallery))
    evaluation = run(predictor, data)
    assert "mAP" in evaluation.metrics and "color" not in evaluation.metrics
    assert evaluation.settings["poses"] == "18 neutral"


def test_attributes_leave_the_unlabelled_out_and_count_strange_classes_as_wrong() -> None:
    result = attribute_result(
        ("red", "blue"), ["red", "red", None, "blue", "mauve"], np.array([0, 1, 0, 1, 0])
    )
    assert result.names == ("red", "blue", "mauve")
    assert result.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert result.accuracy == 0.5
    assert result.unlabelled == 1
    assert np.isnan(attribute_result(("red",), [None], np.array([0])).accuracy)


def test_panels_show_best_median_and_worst_with_the_right_verdicts(predictor, dataset) -> None:
    evaluation = run(predictor, dataset)
    panels = retrieval_panels(evaluation, each=1, top=4)
    assert [panel.title.partition(":")[0] for panel in panels] == ["Best", "Median", "Worst"]
    for panel in panels:
        query, *found = panel.shots
        vehicle = query.name.rpartition("/")[2][:4]
        camera = query.name.rpartition("_c")[2][:3]
        assert len(found) == 4
        for shot in found:
            same = shot.name.rpartition("/")[2][:4] == vehicle
            assert shot.verdict == ("match" if same else "miss")
            assert not (same and f"_c{camera}_" in shot.name)


# The commands


def test_a_card_is_quoted_only_for_its_own_weights_and_data(
    write_card, tmp_path, predictor, dataset
) -> None:
    card = load_card(write_card("https://example.com/a.ckpt", b"weights"))
    assert card_metrics(card, "0" * 64, "VeRi") is None
    assert card_metrics(card, card.asset.sha256, "my/verified") is None
    stated = card_metrics(card, card.asset.sha256, "my/VeRi-776")
    assert stated.values == {"Rank-1": 75.57, "color": 93.2, "type": 91.5}
    assert stated.data == "veri"
    page = write_evaluation_report(
        run(predictor, dataset), tmp_path / "r.html", card=stated
    ).read_text()
    assert "75.57" in page and "card states it for veri" in page


def test_the_evaluate_command(root, checkpoint, tmp_path, capsys) -> None:
    arguments = ["evaluate", "--data", str(root), "--weights", str(checkpoint), "--size", "32"]
    arguments += ["--output", str(tmp_path / "out"), "--rerank"]
    assert main(arguments) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", header.strip()) == ["percent", "pamtri", "re-ranked"]
    table = {row.split()[0]: row.split()[1:] for row in rows if row}
    assert len(table["Rank-1"]) == 2 and len(table["color"]) == 1
    page = (tmp_path / "out" / "report.html").read_text()
    # The weights are not the card's, and the data is not VeRi.
    assert "card states" not in page and "VeRi-776" not in page
    assert f"measured on <code>{root}</code>" in page
    assert page.count('<figure class="shot query">') == 6


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["evaluate", "--data", "nowhere"], "nowhere: there is no such folder"),
        (["evaluate", "--data", "{train}"], "label_query.csv"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(
    root, tmp_path, checkpoint, capsys, arguments, named
) -> None:
    shutil.copytree(root / "image_train", tmp_path / "train" / "image_train")
    shutil.copy(root / "label_train.csv", tmp_path / "train")
    arguments = [argument.format(train=tmp_path / "train", root=root) for argument in arguments]
    assert main([*arguments, "--weights", str(checkpoint)]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error


@pytest.mark.parametrize("command", ["evaluate", "evaluate-pose", "calibrate", "check-data"])
def test_options_without_a_value_are_refused(command, root, capsys) -> None:
    place = [str(root)] if command == "check-data" else ["--data", str(root)]
    option = "--json" if command == "check-data" else "--weights"
    with pytest.raises(SystemExit) as ended:
        main([command, *place, f"{option}=--"])
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_the_report_opens_in_a_browser(predictor, dataset, tmp_path, width) -> None:
    page = write_evaluation_report(run(predictor, dataset), tmp_path / "report.html")
    check_page(page, width)
