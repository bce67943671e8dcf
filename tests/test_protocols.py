"""The field's protocols, on small sets whose figures are worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_sets import cityflow, vehicleid, vric

from multitasknet import MultiTaskNetSpec, read_dataset
from multitasknet.data.records import Record, Split, VehicleDataset
from multitasknet.errors import DataError
from multitasknet.evaluation.embedding import Embeddings
from multitasknet.evaluation.results import Evaluation
from multitasknet.evaluation.run import caveats, evaluate_outputs
from multitasknet.ranking.protocols import PROTOCOLS

Row = tuple[int, int, object]
SPEC = MultiTaskNetSpec(multi_task=False)


def measured(protocol: str, query: list[Row], gallery: list[Row], spec=SPEC) -> Evaluation:
    """Images by vehicle, camera and embedding (and track)."""
    splits = [
        Split(name, tuple(Record(Path("x"), *row[:2], track=(*row, None)[3]) for row in rows))
        for name, rows in (("query", query), ("gallery", gallery))
    ]
    embeddings = np.array([np.atleast_1d(row[2]) for row in (*query, *gallery)], np.float32)
    none = np.full(len(embeddings), -1)
    dataset = VehicleDataset(Path("x"), Split("train"), *splits, protocol=protocol)
    return evaluate_outputs(spec, dataset, Embeddings(embeddings, none, none))


def test_vehicleid_draws_an_image_of_each_vehicle_and_gives_mean_and_deviation() -> None:
    # Vehicle 1 is at 0 and 6, vehicle 2 at 5 and 20, all under one camera. With 6 and 5 in the
    # gallery both queries rank their own second; with any other pair one does.
    images = [(1, 3, 0), (1, 3, 6), (2, 3, 5), (2, 3, 20)]
    found = measured("vehicleid", images[:1], images[1:])
    ids, cameras = np.array([1, 1, 2, 2]), np.full(4, 3)
    galleries = [
        sorted(one.gallery.tolist()) for one in PROTOCOLS["vehicleid"].drawn(ids, cameras, 1)
    ]
    assert len(galleries) == found.ranking.draws == 10
    assert len({tuple(one) for one in galleries}) > 2
    assert {(ids[first], ids[second]) for first, second in galleries} == {(1, 2)}
    precisions = [50 if one == [1, 2] else 75 for one in galleries]
    assert found.metrics["mAP"] == pytest.approx(np.mean(precisions))
    assert found.deviations["mAP"] == pytest.approx(np.std(precisions))
    assert found.ranking.rank(1) == pytest.approx(np.mean(precisions) / 50 - 1)
    assert (found.ranking.rank(2), found.ranking.valid_queries, found.breakdown) == (1, 2, {})
    assert measured("vehicleid", images[:1], images[1:]).metrics == found.metrics
    with pytest.raises(DataError, match="none of the 0 queries has a gallery image of its vehicle"):
        measured("vehicleid", images[:1], images[2:3])


def test_veriwild_leaves_the_querys_own_camera_out() -> None:
    gallery = [(2, 5, 1), (3, 5, 3), (2, 7, 4), (3, 7, 8)]
    found = measured("veriwild", [(2, 5, 0), (3, 6, 10)], gallery)
    # The first: 1 is its own camera's, so 3 (another vehicle), then 4. The second: 8, 4, 3, 1.
    assert found.metrics["mAP"] == pytest.approx(100 * (1 / 2 + (1 + 2 / 3) / 2) / 2)
    assert (found.ranking.rank(1), found.ranking.rank(2)) == (0.5, 1)
    with pytest.raises(DataError, match=r"none of the 1 queries .* from another camera"):
        measured("veri", [(2, 5, 0)], gallery[:2])


def test_cityflow_counts_the_100_nearest_and_ranks_tracks_too() -> None:
    query, gallery = [(7, 1, 1)], [(7, 2, 2, 1), (7, 2, 8, 1), (8, 3, 4, 2)]
    found = measured("cityflow", query, gallery)
    assert found.metrics["mAP"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    # The first track's mean is 5, the other's 4.
    assert found.tracks is not None
    assert found.tracks.mAP == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert list(found.columns) == ["x", "by track"]
    assert measured("veri", query, gallery).tracks is None
    # 101 images of another vehicle are between the matches: the second does not count.
    far = [(7, 2, 1), *((8, 3, n) for n in range(2, 103)), (7, 2, 103)]
    assert measured("cityflow", [(7, 1, 0)], far).metrics["mAP"] == pytest.approx(50)


def test_track_means_are_compared_by_angle_as_embeddings_are() -> None:
    # Vehicle 7 at 90 and -30 degrees (mean 30), vehicle 8 at 14; the mean's length is a half.
    def at(degrees: float) -> tuple[float, float]:
        return np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))

    gallery = [(7, 2, at(90), 1), (7, 2, at(-30), 1), (8, 3, at(14), 2)]
    found = measured("cityflow", [(7, 1, at(20))], gallery, replace(SPEC, distance="cosine"))
    # 8 is 6 degrees from the query and 7's mean 10; not made longer, it would be further still.
    assert found.tracks is not None and found.tracks.ranks.tolist() == [2, 3]
    found = measured("cityflow", [(7, 1, at(24))], gallery, replace(SPEC, distance="cosine"))
    assert found.tracks is not None and found.tracks.ranks.tolist() == [1, 2]


def test_what_makes_figures_not_comparable_is_said(tmp_path: Path) -> None:
    (stated,) = caveats(read_dataset(vric(tmp_path / "vric")), PROTOCOLS["veri"])
    assert stated == (
        "published figures are of 2,811 queries and 2,811 gallery images, these of 1 queries and 1 "
        "gallery images"
    )
    dataset = read_dataset(vehicleid(tmp_path / "vehicleid"))
    assert caveats(dataset, PROTOCOLS["vehicleid"]) == []
    assert caveats(dataset, PROTOCOLS["veri"]) == [
        "the protocol of this data set is vehicleid",
        "where a camera is unknown, images of the query's own camera count",
    ]
    assert len(caveats(read_dataset(cityflow(tmp_path / "city")), PROTOCOLS["veri"])) == 2
