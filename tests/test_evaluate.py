"""Evaluation: from a data set to metrics with intervals, kinds of matches, and pages."""

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
from conftest import ASSETS
from drawn_sets import vehicleid

from multitasknet import DataError, Predictor, load_card
from multitasknet.cli import main
from multitasknet.data.layouts import read_dataset
from multitasknet.data.records import Split, VehicleDataset
from multitasknet.evaluation.figures import Figure, kinds_of_matches, parts_of
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


def changed(dataset: VehicleDataset, **values) -> VehicleDataset:
    """The data set with these values in every record of query and gallery."""

    def split(one: Split) -> Split:
        return replace(one, records=tuple(replace(record, **values) for record in one.records))

    return replace(dataset, query=split(dataset.query), gallery=split(dataset.gallery))


def test_evaluation_imports_no_mindspore() -> None:
    code = "import sys, multitasknet.evaluation.report, multitasknet.evaluation.run; "
    code += "print('mindspore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_figures_are_the_protocols(dataset) -> None:
    predictor = Predictor(ASSETS / "vehiclereid_synthetic.ckpt", size=(32, 32), batch_size=4)
    evaluation = evaluate(predictor, dataset, rerank=True, progress=False)
    found = evaluation.outputs.embeddings
    images = [one.image for one in dataset.held_out.records]
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
    assert metrics["color"] == pytest.approx(100 * np.mean(evaluation.outputs.colors == truth))
    settings = written["settings"]
    assert settings["weights_sha256"] == predictor.engine.weights_sha256
    assert (settings["variant"], settings["poses"]) == ("rgb", "not used")


def test_camera_means_are_taken_away_over_query_and_gallery(dataset, tmp_path) -> None:
    root = drawn.pamtri(tmp_path, drawn.plan(vehicles=10, images=4))
    data = read_dataset(root, ["query", "gallery"])
    plain, evaluation = (run(data, center_cameras=one) for one in (False, True))
    cameras = np.concatenate([data.query.camera_ids, data.gallery.camera_ids])
    expected = center_cameras(plain.outputs.embeddings, cameras)
    found = evaluate_ranking(squared_distances(expected[:20], expected[20:]), *labels(data))
    assert evaluation.metrics["mAP"] == pytest.approx(100 * found.mAP)


def test_attributes_leave_the_unlabelled_out_and_count_strange_classes_as_wrong() -> None:
    known, ids, predicted = ("red", "blue"), [1, 1, None, 2, 12], np.array([0, 1, 0, 1, 0])
    result = AttributeResult.of(known, known, "color", ids, predicted)
    assert result.names == ("red", "blue", "color 12")
    assert result.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    np.testing.assert_array_equal(result.right, [1, 0, np.nan, 1, 0])
    assert result.unlabelled == 1


@pytest.mark.parametrize(
    ("values", "options", "named"),
    [
        ({}, {"center_cameras": True}, "none of the cameras of 18 images took 50"),
        ({"camera_id": 7}, {}, "none of the 6 queries has a gallery image of its vehicle"),
        ({"image": Path("gone.jpg")}, {}, "image gone.jpg does not exist"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_an_hour_of_embedding(
    dataset, values, options, named
) -> None:
    predictor = stores.PixelPredictor()
    with pytest.raises(DataError, match=named):
        evaluate(predictor, changed(dataset, **values), progress=False, **options)
    assert predictor.embedded == 0


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
    evaluation = run(changed(dataset, color_id=None, type_id=None, keypoints=None))
    assert "mAP" in evaluation.metrics and "color" not in evaluation.metrics
    assert evaluation.settings["poses"] == "18 neutral"


@pytest.mark.parametrize("protocol", ["veri", "vehicleid"])
def test_panels_show_best_median_and_worst_as_they_were_ranked(dataset, protocol) -> None:
    evaluation = run(dataset, protocol=protocol)
    panels = retrieval_panels(evaluation, each=1)
    assert [panel.title.partition(":")[0] for panel in panels] == ["Best", "Median", "Worst"]
    for panel in panels:
        query, *found = (Path(shot.name).name for shot in panel.shots)
        same = [name[:4] == query[:4] for name in found]
        assert [shot.verdict == "match" for shot in panel.shots[1:]] == same
        ranks = 1 + np.flatnonzero(same)
        precision = np.mean(np.arange(1, len(ranks) + 1) / ranks)
        assert panel.title.endswith(f"AP {100 * precision:.1f} %")
        # Of 12 images two are the query's vehicle's before its camera; or one of each vehicle.
        assert len(found) == (10 if protocol == "veri" else 3)
        assert protocol != "veri" or query[:9] not in {name[:9] for name in found}


def test_a_card_is_quoted_only_for_its_own_weights_and_data(write_card, tmp_path, dataset) -> None:
    card = load_card(write_card("https://example.com/a.ckpt", b"weights"))
    assert card_metrics(card, "0" * 64, "VeRi") is None
    assert card_metrics(card, card.asset.sha256, "my/verified") is None
    own = replace(card, fields={})  # of generated vehicles, which the Hub has no name for
    assert card_metrics(own, card.asset.sha256, "my/_data") is None
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
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    # Three vehicles are too few for an interval.
    assert written["intervals"] == {name: [None, None] for name in written["metrics"]}
    assert {one["queries"] for one in written["breakdown"]["view"].values()} <= {*range(1, 7)}
    assert written["settings"]["poses"] == "given" and len(written["cmc"]) == 50
    page = (tmp_path / "out" / "report.html").read_text()
    assert "card states" not in page and f"measured on <code>{root}</code>" in page
    assert page.count('<figure class="shot query">') == 6


def test_vehicleid_is_evaluated_by_its_own_protocol(pixels, tmp_path, capsys) -> None:
    line = ["evaluate", "--data", str(vehicleid(tmp_path / "data"))]
    assert main([*line, "--output", str(tmp_path / "out"), "--test-size", "1600"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["percent", "data", "deviation"]
    assert any(row.startswith("VehicleID's protocol") for row in rows)
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (written["valid_queries"], written["settings"]["not_comparable"]) == (2, [])
    assert written["settings"]["layout"] == "VehicleID, tested on 1600 vehicles"
    assert written["deviations"].keys() == written["metrics"].keys() - {"color", "type"}
    assert "of the first draw" in (tmp_path / "out" / "report.html").read_text()
    assert main([*line, "--protocol", "veri"]) == 0
    assert "the protocol of this data set is vehicleid." in capsys.readouterr().out


# Intervals and kinds of matches


NAN = float("nan")
QUERIES = 40
RNG = np.random.default_rng(0)
# Vehicles before three cameras, a fourth that is unknown; queries first.
IDS = np.concatenate([RNG.integers(0, 15, QUERIES), RNG.integers(0, 14, 200), [99]])
CAMERAS = RNG.choice([1, 2, 3, -1], len(IDS))
EMBEDDINGS = RNG.normal(size=(100, 8))[IDS] + RNG.normal(size=(len(IDS), 8))
DISTANCES = ((EMBEDDINGS[:QUERIES, None] - EMBEDDINGS[QUERIES:]) ** 2).sum(axis=2)
RANKING = evaluate_ranking(
    DISTANCES, *(half for column in (IDS, CAMERAS) for half in np.split(column, [QUERIES]))
)


def test_intervals_are_those_of_drawing_vehicles_again_and_again() -> None:
    rng = np.random.default_rng(1)
    vehicles = np.repeat(np.arange(25), rng.integers(1, 9, 25))
    values = np.clip(rng.uniform(size=25)[vehicles] + 0.2 * rng.normal(size=len(vehicles)), 0, 1)
    values[::10] = NAN
    of_vehicle = [values[(vehicles == one) & ~np.isnan(values)] for one in range(25)]
    drawn = [
        100 * np.concatenate([of_vehicle[one] for one in rng.integers(0, 25, 25)]).mean()
        for _ in range(4000)
    ]
    found = Figure.of(values, vehicles)
    assert found.value == pytest.approx(100 * np.nanmean(values))
    assert found.count == np.count_nonzero(~np.isnan(values))
    expected = np.quantile(drawn, (0.025, 0.975))
    assert np.abs(np.array([found.low, found.high]) - expected).max() < 0.06 * np.ptp(expected)
    few = Figure.of(np.ones(900), np.arange(900) % 9)
    assert few.value == 100 and np.isnan([few.low, few.high]).all()


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (Figure(31.843, 29.52, 34.18, 408), ("32", "30 to 34")),
        (Figure(31.843, 31.822, 31.861, 40800), ("31.84", "31.82 to 31.86")),
        # Forty queries, all of them right, do not show a hundredth.
        (Figure(100.0, 100.0, 100.0, 40), ("100", "100 to 100")),
        (Figure(66.667, NAN, NAN, 5000), ("67", "")),
        (Figure(NAN, NAN, NAN, 0), ("", "")),
    ],
)
def test_figures_show_no_more_than_their_interval_allows(figure, shown) -> None:
    assert (str(figure), figure.interval) == shown


def test_a_part_is_the_ranking_without_the_other_matches() -> None:
    kinds = np.random.default_rng(2).integers(0, 3, len(RANKING.queries))
    kinds[RANKING.queries < 4] = 0
    parts = parts_of(RANKING, ("a", "b", "c", "empty"), kinds)
    assert list(parts) == ["a", "b", "c"]
    for kind, part in enumerate(parts.values()):
        precisions, hits = [], []
        for query, vehicle in enumerate(IDS[:QUERIES]):
            own = RANKING.images[(RANKING.queries == query) & (kinds == kind)]
            kept = np.sort(np.concatenate([np.flatnonzero(IDS[QUERIES:] != vehicle), own]))
            order = kept[np.argsort(DISTANCES[query, kept], kind="stable")]
            ranks = np.flatnonzero(np.isin(order, own)) + 1
            if len(ranks):
                precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
                hits.append(ranks[0] == 1)
        assert part.queries == len(precisions)
        assert part.figures["mAP"].value == pytest.approx(100 * np.mean(precisions))
        assert part.figures["Rank-1"].value == pytest.approx(100 * np.mean(hits))


def test_every_match_is_of_one_kind_that_its_images_have() -> None:
    octants = np.random.default_rng(3).integers(-1, 8, len(IDS))
    sides = np.linspace(80, 840, len(IDS))  # of queries to 207
    facts = {"octant": octants, "short side": sides, "quality": sides / 240}
    found = kinds_of_matches(RANKING, CAMERAS, facts, QUERIES)
    assert list(found) == ["camera pair", "view", "size", "quality"]
    kinds = {title: [names[one] for one in places] for title, (names, places) in found.items()}
    ends = ["front", "front", "side", "rear", "rear", "rear", "side", "front", None]
    for number, pair in enumerate(zip(RANKING.queries, QUERIES + RANKING.images, strict=True)):
        assert kinds["quality"][number].endswith("doubted") == (sides[pair[0]] < 120)
        assert (kinds["size"][number] == "below 100 px") == (sides[pair[0]] < 100)
        a, b = sorted(CAMERAS[one] for one in pair)
        assert kinds["camera pair"][number] == ("unknown camera" if a == -1 else f"{a} and {b}")
        seen = {ends[octants[place]] for place in pair}
        expected = "same end" if len(seen) == 1 else "other end"
        if seen & {"side", None}:
            expected = "view unclear" if None in seen else "side"
        assert kinds["view"][number] == expected
