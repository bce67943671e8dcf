"""Evaluation: from a data set to metrics and pages."""

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
import stores
from browser import CHROMIUM, check_page
from conftest import ASSETS
from drawn_sets import vehicleid

from multitasknet import DataError, ImageError, Predictor, load_card
from multitasknet.cli import main
from multitasknet.data.layouts import read_dataset
from multitasknet.data.records import Record, Split, VehicleDataset
from multitasknet.evaluation.embedding import embed_records
from multitasknet.evaluation.report import retrieval_panels, write_evaluation_report
from multitasknet.evaluation.results import AttributeResult, Evaluation, card_metrics
from multitasknet.evaluation.run import evaluate
from multitasknet.ranking.centering import center_cameras
from multitasknet.ranking.distances import squared_distances
from multitasknet.ranking.metrics import evaluate_ranking

PLAN = drawn.plan()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn.pamtri(tmp_path_factory.mktemp("data") / "pamtri", PLAN)


@pytest.fixture(scope="module")
def dataset(root: Path) -> VehicleDataset:
    return read_dataset(root, ["query", "gallery"])


def run(dataset: VehicleDataset, **options) -> Evaluation:
    return evaluate(stores.PixelPredictor(), dataset, progress=False, **options)


def labels(dataset: VehicleDataset) -> list[np.ndarray]:
    splits = dataset.query, dataset.gallery
    return [getattr(one, name) for name in ("vehicle_ids", "camera_ids") for one in splits]


@pytest.fixture
def pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands evaluate the small predictor."""
    monkeypatch.setattr(
        "multitasknet.cli.evaluate.make_predictor", lambda _: stores.PixelPredictor()
    )


def test_evaluation_imports_no_mindspore() -> None:
    code = "import sys, multitasknet.evaluation.report, multitasknet.evaluation.run; "
    code += "print('mindspore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(ASSETS / "vehiclereid_synthetic.ckpt", size=(32, 32), batch_size=4)


def test_the_figures_are_the_protocols(predictor, dataset) -> None:
    evaluation = evaluate(predictor, dataset, rerank=True, progress=False)
    found = evaluation.outputs.embeddings
    images = [one.image for one in (*dataset.query.records, *dataset.gallery.records)]
    np.testing.assert_allclose(found, predictor.embed(images), atol=1e-5)
    query, gallery = np.split(found.astype(np.float64), [len(dataset.query)])
    expected = evaluate_ranking(((query[:, None] - gallery) ** 2).sum(axis=2), *labels(dataset))
    metrics, written = evaluation.metrics, evaluation.as_json()
    ranks = {f"Rank-{k}": 100 * expected.rank(k) for k in (1, 5, 10, 20)}
    wanted = {"mAP": 100 * expected.mAP, "mINP": 100 * expected.mINP} | ranks
    assert {name: metrics[name] for name in wanted} == pytest.approx(wanted)
    assert list(metrics) == [*wanted, "color", "type"]
    assert list(written["reranked"]) == list(wanted) and not written["by_track"]
    truth = [one.color - 1 for split in ("query", "gallery") for one in PLAN if one.split == split]
    right = evaluation.outputs.colors == truth
    assert metrics["color"] == pytest.approx(100 * np.mean(right))
    settings = written["settings"]
    assert settings["weights_sha256"] == predictor.engine.weights_sha256
    assert (settings["variant"], settings["poses"]) == ("rgb", "not used")


def test_metrics_json_has_all_figures_and_no_nan(dataset, tmp_path) -> None:
    evaluation = run(dataset, output=tmp_path)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["metrics"] == pytest.approx(evaluation.metrics)
    # Three vehicles are too few for an interval.
    assert written["intervals"] == {name: [None, None] for name in evaluation.metrics}
    assert {one["queries"] for one in written["breakdown"]["view"].values()} <= {*range(1, 7)}
    assert written["settings"]["versions"]["numpy"] == np.__version__
    assert written["settings"]["poses"] == "given"
    assert len(written["cmc"]) == 50


def test_camera_means_are_taken_away_over_query_and_gallery(dataset, tmp_path) -> None:
    root = drawn.pamtri(tmp_path, drawn.plan(vehicles=10, images=4))
    data = read_dataset(root, ["query", "gallery"])
    plain, evaluation = (run(data, center_cameras=one) for one in (False, True))
    cameras = np.concatenate([data.query.camera_ids, data.gallery.camera_ids])
    expected = center_cameras(plain.outputs.embeddings, cameras)
    found = evaluate_ranking(squared_distances(expected[:20], expected[20:]), *labels(data))
    assert evaluation.metrics["mAP"] == pytest.approx(100 * found.mAP)
    assert evaluation.settings["center_cameras"] and not plain.settings["center_cameras"]


@pytest.mark.parametrize(
    ("camera", "options", "named"),
    [
        (None, {"center_cameras": True}, "none of the cameras of 18 images took 50"),
        (7, {}, "none of the 6 queries has a gallery image of its vehicle from another camera"),
        (None, {"protocol": "vehicles"}, "protocol is 'vehicles'; expected veri, cityflow"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_an_hour_of_embedding(
    dataset, camera, options, named
) -> None:
    def before(split: Split) -> Split:
        return replace(split, records=tuple(replace(r, camera_id=camera) for r in split.records))

    if camera:
        dataset = replace(dataset, query=before(dataset.query), gallery=before(dataset.gallery))
    predictor = stores.PixelPredictor()
    with pytest.raises(ValueError, match=named):
        evaluate(predictor, dataset, progress=False, **options)
    assert predictor.embedded == 0


def test_pictures_that_are_missing_or_damaged_are_named(tmp_path, predictor) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    records = [Record(tmp_path / name, 0, origin="x.csv:1") for name in ("gone.jpg", "bad.jpg")]
    with pytest.raises(DataError, match=r"x\.csv:1: image .*gone\.jpg does not exist"):
        embed_records(predictor, records, progress=False)
    with pytest.raises(ImageError, match=r"bad\.jpg: the image cannot be read"):
        embed_records(predictor, records[1:], progress=False)


@pytest.mark.parametrize(
    ("name", "protocol", "warned"),
    [
        ("0101_c001_5_0.jpg", "veri", False),  # the query's vehicle and camera: left out
        ("0101_c001_5_0.jpg", "vehicleid", True),  # which leaves nothing out
        ("car.jpg", "veri", True),
    ],
)
def test_queries_that_find_themselves_are_found_by_content(
    root, tmp_path, caplog, name, protocol, warned
) -> None:
    shutil.copytree(root / "image_query", tmp_path / "crops")
    images = sorted((tmp_path / "crops").iterdir())
    shutil.copy(images[0], tmp_path / name)
    rows = [f"crops/{image.name},{image.name[:4]}" for image in images[1:]]
    (tmp_path / "gallery.csv").write_text("\n".join(["image,vehicle_id", f"{name},0101", *rows]))
    (tmp_path / "query.csv").write_text(f"image,vehicle_id\ncrops/{images[0].name},0101\n")
    run(read_dataset(tmp_path, ["query", "gallery"]), protocol=protocol)
    assert ("1 of the queries are in the gallery themselves" in caplog.text) == warned


def test_without_labelled_colours_and_poses_there_are_no_such_figures(dataset) -> None:
    def bare(split: Split) -> Split:
        unknown = {"color_id": None, "type_id": None, "keypoints": None}
        return replace(split, records=tuple(replace(one, **unknown) for one in split.records))

    data = replace(dataset, query=bare(dataset.query), gallery=bare(dataset.gallery))
    evaluation = run(data)
    assert "mAP" in evaluation.metrics and "color" not in evaluation.metrics
    assert evaluation.settings["poses"] == "18 neutral"


def test_attributes_leave_the_unlabelled_out_and_count_strange_classes_as_wrong() -> None:
    known, ids, predicted = ("red", "blue"), [1, 1, None, 2, 12], np.array([0, 1, 0, 1, 0])
    result = AttributeResult.of(known, known, "color", ids, predicted)
    assert result.names == ("red", "blue", "color 12")
    assert result.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    np.testing.assert_array_equal(result.right, [1, 0, np.nan, 1, 0])
    assert result.unlabelled == 1


@pytest.mark.parametrize("protocol", ["veri", "vehicleid"])
def test_panels_show_best_median_and_worst_as_they_were_ranked(dataset, protocol) -> None:
    evaluation = run(dataset, protocol=protocol)
    panels = retrieval_panels(evaluation, each=1, top=20)
    assert [panel.title.partition(":")[0] for panel in panels] == ["Best", "Median", "Worst"]
    for panel in panels:
        query, *found = (Path(shot.name).name for shot in panel.shots)
        same = [name[:4] == query[:4] for name in found]
        assert [shot.verdict == "match" for shot in panel.shots[1:]] == same
        ranks = 1 + np.flatnonzero(same)
        precision = np.mean(np.arange(1, len(ranks) + 1) / ranks)
        assert panel.title.endswith(f"AP {100 * precision:.1f} %")
        if protocol == "veri":  # 12 images, two of them the query's vehicle's before its camera
            assert len(found) == 10 and query[:9] not in {name[:9] for name in found}
        else:
            assert sorted(name[:4] for name in found) == ["0101", "0102", "0103"]


def test_a_card_is_quoted_only_for_its_own_weights_and_data(write_card, tmp_path, dataset) -> None:
    card = load_card(write_card("https://example.com/a.ckpt", b"weights"))
    assert card_metrics(card, "0" * 64, "VeRi") is None
    assert card_metrics(card, card.asset.sha256, "my/verified") is None
    stated = card_metrics(card, card.asset.sha256, "my/VeRi-776")
    assert stated.values == {"Rank-1": 75.57, "color": 93.2, "type": 91.5}
    page = write_evaluation_report(run(dataset), tmp_path / "r.html", card=stated)
    assert "75.57" in page.read_text() and "card states it for veri" in page.read_text()


# The command


def test_the_evaluate_command(root, pixels, tmp_path, capsys) -> None:
    line = ["evaluate", "--data", str(root), "--output", str(tmp_path / "out"), "--rerank"]
    assert main(line) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", header.strip()) == ["percent", "pamtri", "re-ranked"]
    table = {row.split()[0]: row.split()[1:] for row in rows if row}
    assert len(table["Rank-1"]) == 2 and len(table["color"]) == 1
    page = (tmp_path / "out" / "report.html").read_text()
    # The weights are not the card's, and the data is not VeRi.
    assert "card states" not in page and "VeRi-776" not in page
    assert f"measured on <code>{root}</code>" in page
    assert page.count('<figure class="shot query">') == 6
    for missing, named in ((["query"], "label_query.csv"), (["train", "query"], "no such folder")):
        data = tmp_path / missing[0]
        if len(missing) == 1:
            data.mkdir()
            shutil.copy(root / "label_train.csv", data)
        assert main(["evaluate", "--data", str(data)]) == 2
        assert named in capsys.readouterr().err


def test_vehicleid_is_evaluated_by_its_own_protocol(pixels, tmp_path, capsys) -> None:
    line = ["evaluate", "--data", str(vehicleid(tmp_path / "data"))]
    assert main([*line, "--output", str(tmp_path / "out"), "--test-size", "1600"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["percent", "data", "deviation"]
    assert any(row.startswith("VehicleID's protocol") for row in rows)
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (written["valid_queries"], written["settings"]["not_comparable"]) == (2, [])
    assert written["settings"]["layout"] == "VehicleID, tested on 1600 vehicles (not 800)"
    assert written["deviations"].keys() == written["metrics"].keys() - {"color", "type"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "each draw makes 2 of them queries." in page and "of the first draw" in page
    assert main([*line, "--protocol", "veri"]) == 0
    assert "the protocol of this data set is vehicleid." in capsys.readouterr().out


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_report_opens_in_a_browser(dataset, tmp_path) -> None:
    check_page(write_evaluation_report(run(dataset), tmp_path / "report.html"), 400)
