"""Evaluation, search and threshold: from a folder of images to metrics and pages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import drawn
import numpy as np
import pytest
from PIL import Image

from multitasknet import (
    DataError,
    GalleryIndex,
    MultiTaskNetSpec,
    Predictor,
    create_network,
    export,
    load_card,
    quantize,
    read_labels,
)
from multitasknet.cli import main
from multitasknet.data.layouts import read_dataset
from multitasknet.data.records import Record, Split
from multitasknet.data.samples import sample_fingerprint
from multitasknet.evaluation.report import retrieval_panels, write_evaluation_report
from multitasknet.evaluation.results import attribute_result, card_metrics
from multitasknet.evaluation.run import dataset_roc, evaluate
from multitasknet.files import fingerprint
from multitasknet.images import find_images
from multitasknet.models.multitasknet.spec import Variant
from multitasknet.ranking.metrics import evaluate_ranking
from multitasknet.retrieval import embedding as embedding_module
from multitasknet.retrieval.embedding import embed_split
from multitasknet.retrieval.search import build_index, search

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


def test_the_figures_are_the_protocols(predictor, dataset) -> None:
    evaluation = run(predictor, dataset, rerank=True)
    query, gallery = evaluation.query.embeddings, evaluation.gallery.embeddings
    distances = ((query[:, None].astype(np.float64) - gallery[None]) ** 2).sum(axis=2)
    expected = evaluate_ranking(
        distances,
        dataset.query.vehicle_ids,
        dataset.gallery.vehicle_ids,
        dataset.query.camera_ids,
        dataset.gallery.camera_ids,
    )
    metrics = evaluation.metrics
    assert metrics["mAP"] == pytest.approx(100 * expected.mAP)
    assert metrics["Rank-5"] == pytest.approx(100 * expected.rank(5))
    assert list(metrics) == [
        "mAP",
        "mINP",
        "Rank-1",
        "Rank-5",
        "Rank-10",
        "Rank-20",
        "color",
        "type",
    ]
    assert set(evaluation.reranked_metrics) == set(metrics) - {"color", "type"}
    told = np.concatenate([evaluation.query.colors, evaluation.gallery.colors])
    truth = [one.color - 1 for split in ("query", "gallery") for one in PLAN if one.split == split]
    assert metrics["color"] == pytest.approx(100 * np.mean(told == truth))


def test_twice_and_from_every_layout_the_figures_are_the_same_to_the_last_bit(
    predictor, dataset, root, tmp_path
) -> None:
    first = run(predictor, dataset, workers=2)
    again = run(predictor, dataset, workers=1)
    assert again.metrics == first.metrics
    np.testing.assert_array_equal(again.query.embeddings, first.query.embeddings)
    np.testing.assert_array_equal(again.gallery.embeddings, first.gallery.embeddings)


class Interrupted(Predictor):
    """A predictor that Ctrl-C stops after some batches."""

    batches_left = 3

    def run(self, x, p):
        if not self.batches_left:
            raise KeyboardInterrupt
        self.batches_left -= 1
        return super().run(x, p)


def test_an_interrupted_run_goes_on_where_it_was(
    predictor, checkpoint, dataset, tmp_path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(embedding_module, "_PIECE", 4)
    interrupted = Interrupted(checkpoint, size=SIZE, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        run(interrupted, dataset, output=tmp_path)
    # query 4 + 2 images, gallery 4: three batches
    assert sorted(path.name for path in (tmp_path / "embeddings").iterdir()) == [
        "gallery.part-00000000.npz",
        "query.npz",
    ]
    interrupted.batches_left = 2
    evaluation = run(interrupted, dataset, output=tmp_path)
    assert "gallery: going on behind 4 finished images" in caplog.text
    assert sorted(path.name for path in (tmp_path / "embeddings").iterdir()) == [
        "gallery.npz",
        "query.npz",
    ]
    straight = run(predictor, dataset)
    np.testing.assert_array_equal(evaluation.gallery.embeddings, straight.gallery.embeddings)


def test_kept_embeddings_are_used_only_for_the_same_network_and_data(
    checkpoint, dataset, tmp_path
) -> None:
    idle = Interrupted(checkpoint, size=SIZE, batch_size=4)
    idle.batches_left = 99
    first = embed_split(idle, dataset.query, folder=tmp_path, progress=False)
    assert idle.batches_left == 97
    embed_split(idle, dataset.query, folder=tmp_path, progress=False)
    assert idle.batches_left == 97
    (tmp_path / "query.npz").write_bytes(b"damaged")
    again = embed_split(idle, dataset.query, folder=tmp_path, progress=False)
    assert idle.batches_left == 95
    np.testing.assert_array_equal(first.embeddings, again.embeddings)
    other = Interrupted(weights=None, variant="rgb", size=SIZE, batch_size=4)
    other.batches_left = 99
    embed_split(other, dataset.query, folder=tmp_path, progress=False)
    assert other.batches_left == 97


def test_embeddings_of_another_precision_are_computed_anew(checkpoint, dataset, tmp_path) -> None:
    counted = Interrupted(checkpoint, size=SIZE, batch_size=4)
    counted.batches_left = 4
    embed_split(counted, dataset.query, folder=tmp_path, progress=False)
    assert counted.batches_left == 2
    counted.engine.precision = "int8"
    embed_split(counted, dataset.query, folder=tmp_path, progress=False)
    assert counted.batches_left == 0


def test_float32_and_int8_of_the_same_weights_are_kept_apart(checkpoint, dataset, tmp_path) -> None:
    exact = Predictor(export(tmp_path / "f.onnx", weights=checkpoint, size=SIZE).path)
    images = [record.image for record in dataset.gallery.records]
    quantize(tmp_path / "i.onnx", exact, images, min_cosine=0)
    kept = [
        embed_split(predictor, dataset.query, folder=tmp_path / "kept", progress=False).embeddings
        for predictor in (exact, Predictor(tmp_path / "i.onnx"))
    ]
    assert not np.array_equal(*kept)


def test_a_network_trained_further_is_evaluated_anew(dataset, tmp_path) -> None:
    network = create_network(weights=None, num_ids=3)

    def kept() -> np.ndarray:
        predictor = Predictor(network=network, size=SIZE)
        return embed_split(predictor, dataset.query, folder=tmp_path, progress=False).embeddings

    first = kept()
    np.testing.assert_array_equal(kept(), first)
    network.fc_vid.bias.set_data(network.fc_vid.bias + 1)
    assert not np.array_equal(kept(), first)


def test_keypoints_that_come_later_count(predictor, root) -> None:
    images = find_images(root / "image_query")
    labels = read_labels(root / "label_query.csv")
    without = build_index(predictor, images, progress=False)
    with_pose = build_index(predictor, images, labels=labels, known=without, progress=False)
    assert not np.isclose(with_pose.embeddings, without.embeddings).all(axis=1).any()


def test_metrics_without_any_labelled_colour_are_still_json(predictor, tmp_path) -> None:
    root = drawn.plain_csv(tmp_path / "data", PLAN)
    for name in ("query", "gallery"):
        rows = [line.split(",")[:2] for line in (root / f"{name}.csv").read_text().splitlines()]
        (root / f"{name}.csv").write_text("".join(f"{','.join(row)}\n" for row in rows))
    run(predictor, read_dataset(root, ["query", "gallery"]), output=tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    written = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert "mAP" in written["metrics"]
    assert "color" not in written["metrics"]


@pytest.mark.parametrize("kept", [0, 100])
def test_an_empty_or_cut_file_of_embeddings_is_made_again(
    predictor, dataset, tmp_path, caplog, kept
) -> None:
    first = embed_split(predictor, dataset.query, folder=tmp_path, progress=False)
    path = tmp_path / "query.npz"
    path.write_bytes(path.read_bytes()[:kept])
    again = embed_split(predictor, dataset.query, folder=tmp_path, progress=False)
    np.testing.assert_array_equal(first.embeddings, again.embeddings)
    assert "query.npz is damaged" in caplog.text


def test_a_replaced_gallery_picture_is_embedded_anew(predictor, root, tmp_path) -> None:
    images = [Path(shutil.copy(image, tmp_path)) for image in find_images(root / "image_test")[:3]]
    index = build_index(predictor, images, progress=False)
    query = find_images(root / "image_query")[-1]
    shutil.copy(query, images[0])
    grown = build_index(predictor, images, known=index, progress=False)
    assert not np.array_equal(grown.embeddings[0], index.embeddings[0])
    np.testing.assert_array_equal(grown.embeddings[1:], index.embeddings[1:])


def test_a_picture_replaced_by_one_of_the_same_size_and_time_is_embedded_anew(
    predictor, tmp_path
) -> None:
    image = tmp_path / "a.bmp"
    split = Split("query", (Record(image, vehicle_id=0),))

    def draw(color: str) -> tuple[np.ndarray, GalleryIndex]:
        Image.new("RGB", (32, 32), color).save(image)
        os.utime(image, ns=(0, 0))
        kept = embed_split(predictor, split, folder=tmp_path / "kept", progress=False)
        return kept.embeddings, build_index(predictor, [image], known=known, progress=False)

    known = None
    red, known = draw("red")
    blue, index = draw("blue")
    assert not np.array_equal(blue, red)
    assert not np.array_equal(index.embeddings, known.embeddings)


def test_a_stored_map_replaced_by_one_of_the_same_size_and_time_counts(tmp_path) -> None:
    root = drawn.pamtri(tmp_path / "data", PLAN[:1] + PLAN[-1:], maps=True)
    (record,) = read_dataset(root, ["train"]).train.records
    spec = MultiTaskNetSpec(Variant.SEGMENT)
    first = sample_fingerprint(record, spec)
    stored = record.segments / "03.jpg"
    times = stored.stat()
    stored.write_bytes(stored.read_bytes()[::-1])
    os.utime(stored, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert sample_fingerprint(record, spec) != first
    assert sample_fingerprint(record, MultiTaskNetSpec(Variant.RGB)) == sample_fingerprint(
        replace(record, segments=None), MultiTaskNetSpec(Variant.RGB)
    )


def test_a_copy_of_a_picture_has_its_fingerprint(root, tmp_path) -> None:
    (image, *_) = find_images(root / "image_query")
    copy = Path(shutil.copyfile(image, tmp_path / "copy.jpg"))
    assert fingerprint([copy], b"x") == fingerprint([image], b"x")
    assert fingerprint([copy], b"x") != fingerprint([image], b"y")
    assert fingerprint([copy], b"x", b"y") != fingerprint([copy], b"xy")


def test_a_picture_that_cannot_be_opened_is_named(predictor, tmp_path) -> None:
    split = Split("query", (Record(tmp_path / "gone.jpg", vehicle_id=0),))
    with pytest.raises(DataError, match=r"gone\.jpg: cannot be read"):
        embed_split(predictor, split, folder=tmp_path / "kept", progress=False)


def test_metrics_json_states_what_the_figures_belong_to(predictor, dataset, tmp_path) -> None:
    evaluation = run(predictor, dataset, output=tmp_path)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["metrics"] == evaluation.metrics
    assert written["settings"]["weights_sha256"] == predictor.engine.weights_sha256
    assert written["settings"]["variant"] == "segment"
    assert written["settings"]["versions"]["numpy"] == np.__version__
    assert len(written["cmc"]) == 50


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
    panels = retrieval_panels(evaluation, dataset, each=1, top=4)
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


# Search and threshold


def test_search_finds_the_image_itself_first(predictor, root) -> None:
    images = find_images(root / "image_test")
    index = build_index(predictor, images, progress=False)
    found = search(predictor, index, images[3:5], top=3, progress=False)
    assert [matches[0].name for matches in found] == [str(images[3]), str(images[4])]
    assert all(matches[0].distance == pytest.approx(0, abs=1e-3) for matches in found)
    grown = build_index(predictor, images[1:], known=index, progress=False)
    np.testing.assert_array_equal(grown.embeddings, index.embeddings[1:])


def test_a_gallery_without_images_or_with_bad_ones_is_named(predictor, tmp_path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.jpg: the image cannot be read"):
        build_index(predictor, find_images(tmp_path), progress=False)


def test_the_roc_of_a_data_set_counts_its_pairs(predictor, dataset) -> None:
    roc = dataset_roc(predictor, dataset, progress=False)
    images = [one for one in PLAN if one.split in ("query", "gallery")]
    pairs = [(a, b) for i, a in enumerate(images) for b in images[:i]]
    same = [(a, b) for a, b in pairs if a.vehicle == b.vehicle]
    assert roc.positives == sum(a.camera != b.camera for a, b in same)
    assert roc.negatives == len(pairs) - len(same)


# The commands


def test_a_card_is_quoted_only_for_its_own_weights(
    write_card, tmp_path, predictor, dataset
) -> None:
    card = load_card(write_card("https://example.com/a.ckpt", b"weights"))
    assert card_metrics(card, "0" * 64) is None
    stated = card_metrics(card, card.asset.sha256)
    assert stated.values == {"Rank-1": 75.57, "color": 93.2, "type": 91.5}
    assert stated.data == "veri"
    evaluation = evaluate(predictor, dataset, progress=False)
    page = write_evaluation_report(
        evaluation, dataset, tmp_path / "r.html", card=stated
    ).read_text()
    assert "75.57" in page and "states its metrics\nfor veri" in page


def test_the_evaluate_command(root, checkpoint, tmp_path, capsys) -> None:
    arguments = ["evaluate", "--data", str(root), "--weights", str(checkpoint), "--size", "32"]
    arguments += ["--output", str(tmp_path / "out"), "--rerank", "--batch-size", "4"]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    header, *rows = first.splitlines()
    assert re.split(r"\s{2,}", header.strip()) == ["percent", "this run", "re-ranked"]
    table = {row.split()[0]: row.split()[1:] for row in rows if row}
    assert len(table["Rank-1"]) == 2 and len(table["color"]) == 1
    assert main(arguments) == 0
    assert capsys.readouterr().out == first
    page = (tmp_path / "out" / "report.html").read_text()
    # The weights are not the card's, and the data is not VeRi.
    assert "card states" not in page and "VeRi" not in page
    assert f"measured on <code>{root}</code>" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page), "the page must stand alone"
    assert page.count('<figure class="shot query">') == 6
    threshold = ["threshold", "--data", str(root), "--weights", str(checkpoint), "--size", "32"]
    threshold += [
        "--false-match-rate",
        "0.1",
        "--output",
        str(tmp_path / "out"),
        "--batch-size",
        "4",
    ]
    assert main(threshold) == 0
    assert "true-match rate" in capsys.readouterr().out


def test_the_search_command(root, checkpoint, tmp_path, capsys) -> None:
    gallery, index = root / "image_test", tmp_path / "gallery.npz"
    query = str(sorted((root / "image_query").iterdir())[0])
    network = ["--weights", str(checkpoint), "--size", "32"]
    arguments = ["search", "--query", query, "--top", "3", "--index", str(index), *network]
    assert main([*arguments, "--gallery", str(gallery), "--output", str(tmp_path / "s.html")]) == 0
    first = capsys.readouterr().out
    assert first.count(str(gallery)) == 3
    assert "data:image/jpeg" in (tmp_path / "s.html").read_text()
    assert main(arguments) == 0
    assert capsys.readouterr().out == first.replace(f"\n{tmp_path / 's.html'}\n", "")
    other = ["search", "--query", query, "--index", str(index), "--weights", "none"]
    assert main([*other, "--size", "32"]) == 2
    assert "built by another network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["evaluate", "--data", "nowhere"], "nowhere: there is no such folder"),
        (["evaluate", "--data", "{train}"], "label_query.csv"),
        (["search", "--gallery", "nowhere", "--query", "a.jpg"], "nowhere: there is no such"),
        (["search", "--gallery", "{images}", "--query", "a.jpg"], "a.jpg does not exist"),
        (["threshold", "--data", "{root}", "--false-match-rate", "1e-9"], "1e-09"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(
    root, tmp_path, checkpoint, capsys, arguments, named
) -> None:
    train = tmp_path / "train"
    shutil.copytree(root / "image_train", train / "image_train")
    shutil.copy(root / "label_train.csv", train)
    places = {"train": train, "images": root / "image_test", "root": root}
    arguments = [argument.format(**places) for argument in arguments]
    assert main([*arguments, "--weights", str(checkpoint), "--size", "32"]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_the_report_opens_in_a_browser(predictor, dataset, tmp_path, width) -> None:
    page = tmp_path / "report.html"
    write_evaluation_report(run(predictor, dataset), dataset, page)
    script = (
        "<script>document.body.dataset.wide = document.documentElement.scrollWidth;"
        "document.body.dataset.broken = [...document.images]"
        ".filter(i => !i.naturalWidth).length;</script></body>"
    )
    page.write_text(page.read_text().replace("</body>", script))
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    browser += [f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}"]
    browser += ["--disable-background-networking", "--no-first-run", page.as_uri()]
    dom = subprocess.run(browser, capture_output=True, text=True, timeout=60, check=True).stdout
    assert int(re.search(r'data-wide="(\d+)"', dom)[1]) <= max(width, 500)
    assert re.search(r'data-broken="(\d+)"', dom)[1] == "0"
