"""The field's protocols, on small sets whose figures are worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_sets import cityflow, vehicleid, vric

from multitasknet import MultiTaskNetSpec, read_dataset
from multitasknet.data.records import Record, Split, VehicleDataset
from multitasknet.evaluation.embedding import Embeddings
from multitasknet.evaluation.run import caveats, evaluate_outputs
from multitasknet.ranking.protocols import PROTOCOLS, evaluate_by

SPEC = MultiTaskNetSpec(multi_task=False)


def column(*places: float) -> np.ndarray:
    """Embeddings of one number."""
    return np.array(places, dtype=np.float32)[:, None]


def test_vehicleid_draws_an_image_of_each_vehicle_and_gives_mean_and_deviation() -> None:
    # Vehicle 1 is at 0 and 6, vehicle 2 at 5 and 20, all under one camera. With 6 and 5 in the
    # gallery both queries rank their own second; with any other pair one does.
    ids, images = np.array([1, 1, 2, 2]), column(0, 6, 5, 20)
    protocol, cameras = PROTOCOLS["vehicleid"], np.full(4, 3)
    splits = (images[:1], images[1:]), (ids[:1], ids[1:], cameras[:1], cameras[1:])
    result = evaluate_by(protocol, *splits)
    galleries = [sorted(gallery.tolist()) for _, gallery in protocol.drawn(ids)]
    assert len(galleries) == len(result.draws) == 10
    assert len({tuple(one) for one in galleries}) > 2
    assert {(ids[first], ids[second]) for first, second in galleries} == {(1, 2)}
    both = [gallery == [1, 2] for gallery in galleries]
    assert [one.mAP for one in result.draws] == [0.5 if one else 0.75 for one in both]
    assert result.mAP == pytest.approx(0.75 - 0.25 * np.mean(both))
    assert result.rank(1) == pytest.approx(0.5 - 0.5 * np.mean(both))
    assert (result.rank(2), result.valid_queries) == (1, 2)
    # Image 0 is a query where 6 is in the gallery; then 20 leaves it the nearest, and 5 does not.
    precisions = [0.5 if gallery == [1, 2] else 1 for gallery in galleries if gallery[0] == 1]
    assert result.average_precisions == pytest.approx([np.mean(precisions)])
    again = evaluate_by(protocol, *splits)
    assert again.mAP == result.mAP


def test_veriwild_leaves_the_querys_own_camera_out() -> None:
    result = evaluate_by(
        PROTOCOLS["veriwild"],
        (column(0, 10), column(1, 3, 4, 8)),
        (np.array([2, 3]), np.array([2, 3, 2, 3]), np.array([5, 6]), np.array([5, 5, 7, 7])),
    )
    # The first: 1 is its own camera's, so 3 (another vehicle), then 4. The second: 8, 4, 3, 1.
    assert result.mAP == pytest.approx((1 / 2 + (1 + 2 / 3) / 2) / 2)
    assert (result.rank(1), result.rank(2)) == (0.5, 1)


def measured(dataset: VehicleDataset, query: np.ndarray, gallery: np.ndarray):
    none = [Embeddings(one, *[np.full(len(one), -1)] * 2) for one in (query, gallery)]
    return evaluate_outputs(SPEC, dataset, *none)


def test_cityflow_counts_the_100_nearest_and_ranks_tracks_too() -> None:
    def record(vehicle: int, camera: int, track: int | None = None) -> Record:
        return Record(Path("x"), vehicle, camera, track=track)

    images = record(7, 2, 1), record(7, 2, 1), record(8, 3, 2)
    dataset = VehicleDataset(
        Path("x"), Split("train"), Split("query", (record(7, 1),)), Split("gallery", images)
    )
    dataset = replace(dataset, protocol="cityflow")
    found = measured(dataset, column(1), column(2, 8, 4))
    assert found.metrics["mAP"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    # The first track's mean is 5, the other's 4.
    assert found.track_metrics["mAP"] == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)
    assert list(found.columns) == ["x", "by track"]
    assert measured(replace(dataset, protocol="veri"), column(1), column(2, 8, 4)).tracks is None
    # 101 images of another vehicle are between the matches: the second does not count.
    far = Split("gallery", (images[0], *[record(8, 3)] * 101, images[1]))
    far_off = measured(replace(dataset, gallery=far), column(0), column(*range(1, 104)))
    assert far_off.metrics["mAP"] == pytest.approx(50)


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
