"""Images as vehicles: mutual neighbours, one appearance per camera and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import stores
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import PixelPredictor

from multitasknet.errors import GalleryError
from multitasknet.gallery.linking import Sightings, complete_linkage, link
from multitasknet.ranking.distances import nearest, squared_distances

NOON = datetime(2026, 11, 1, 12)


def neighbors_of(points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    distances = squared_distances(points, points)
    near = np.stack([nearest(row, min(count, len(points))) for row in distances])
    return near, np.take_along_axis(distances, near, axis=1)


def seen(
    cameras: Sequence[int],
    first: Sequence[float],
    last: Sequence[float] | None = None,
    *,
    window: float = 1.0,
    pinned: Sequence[int] | None = None,
    bounds: Mapping[tuple[int, int], tuple[float, float]] | None = None,
) -> Sightings:
    count = len(cameras)
    return Sightings(
        range(int(max(cameras)) + 1),
        np.array(cameras),
        np.array(first, np.float64),
        np.array(first if last is None else last, np.float64),
        window=np.full(count, window),
        tracks=np.arange(count),
        pinned=np.full(count, -1) if pinned is None else np.array(pinned),
        bounds=bounds or {},
    )


def grouped(points: Sequence[float], *where: Any, **more: Any) -> list[int]:
    array = np.array(points, np.float32)[:, None]
    limit = more.pop("max_distance", 1.0)
    near = neighbors_of(array, 50)
    return link(array, *near, seen(*where, **more), max_distance=limit).tolist()


def test_mutual_neighbors_across_cameras_are_one_vehicle() -> None:
    assert grouped([0, 0.1, 5, 5.1, 9], [1, 2, 1, 2, 3], [0, 9, 0, 9, 20]) == [0, 0, 1, 1, 2]


def test_a_camera_sees_a_vehicle_once_in_a_window() -> None:
    points, cameras = [0, 0.1, 0.2], [1, 1, 2]
    assert grouped(points, cameras, [0, 0.5, 9], window=1) == [0, 1, 1]
    assert grouped(points, cameras, [0, 5, 9], window=1) == [0, 0, 0]
    assert grouped(points, cameras, [0, np.nan, 9], window=1) == [0, 0, 0]
    assert grouped(points, [-1, -1, -1], [0, 0, 0], window=1) == [0, 0, 0]


@pytest.mark.parametrize("way", [(1, 2), (2, 1)])
def test_rows_of_one_time_may_have_gone_either_way(way: tuple[int, int]) -> None:
    slow, both = {way: (30.0, 90.0)}, dict.fromkeys([(1, 2), (2, 1)], (30.0, 90.0))
    assert grouped([0, 0.1], [1, 2], [5, 5], bounds=slow) == [0, 0]
    assert grouped([0, 0.1], [1, 2], [5, 5], bounds=both) == [0, 1]


def test_pairs_that_are_not_mutual_or_too_far_are_none() -> None:
    # The second is the third's nearest of camera 1, but has a nearer one in camera 2.
    assert grouped([0, 0.3, 0.7], [2, 1, 2], [0, 9, 20], max_distance=0.3) == [0, 0, 1]
    assert grouped([0, 2], [1, 2], [0, 9]) == [0, 1]


def test_a_chain_of_vehicles_is_not_one() -> None:
    # Each is the next one's neighbour, 0.9 apart; the first and the last of three are 3.24 apart.
    points, cameras = [0, 0.9, 1.81, 2.73], [1, 2, 3, 4]
    assert grouped(points, cameras, [0, 9, 20, 30]) == [0, 0, 1, 1]
    # Where few neighbours are looked at, the distances of the others count all the same.
    array = np.array([0, 0.1, 0.2, 0.3], np.float32)[:, None]
    few = link(array, *neighbors_of(array, 3), seen(cameras, [0, 9, 20, 30]), max_distance=1.0)
    assert few.tolist() == [0, 0, 0, 0]


def precision_and_recall(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Of pairs of images in one group."""
    first, second = np.triu_indices(len(found), k=1)
    together, same = found[first] == found[second], truth[first] == truth[second]
    right = (together & same).sum()
    return right / together.sum(), right / same.sum()


def test_a_gallery_knows_its_vehicles() -> None:
    gallery = stores.open_gallery()
    colors = ((250, 0, 0), (0, 250, 0), (248, 0, 0), (0, 0, 250), (249, 2, 0))
    rows = [
        stores.row(
            f"crop {n}",
            n,
            camera=f"c{n}",
            time=NOON - timedelta(hours=n),
            embedding=PixelPredictor().one(np.full((4, 4, 3), color, np.uint8)).embedding,
        )
        for n, color in enumerate(colors)
    ]
    gallery.merge(rows, insert=True)
    expected = {"crops": 5, "vehicles": 3, "with several crops": 1, "max distance": 0.1}
    for _ in range(2):
        assert gallery.link(max_distance=0.1, progress=False).counts == expected
    vehicles = {row["id"]: row["vehicle"] for row in gallery.rows(["id", "vehicle"])}
    assert [vehicles[f"crop {n}"] for n in range(5)] == [0, None, 0, None, 0]
    groups = gallery.group(max_distance=0.1)
    assert groups.vehicles.tolist() == [0, 1, 0, 2, 0] and groups.images[4] == Path("/4.png")
    assert gallery.group(max_distance=0.1, where="id <> 'crop 0'").vehicles.tolist() == [0, 1, 2, 1]
    with pytest.raises(GalleryError, match="no rows to group"):
        gallery.group(max_distance=0.1, where="id = 'nobody'")


def test_a_long_track_finds_other_cameras() -> None:
    # 60 rows of each track, nearer each other than another camera's.
    rng, rows = np.random.default_rng(0), []
    for vehicle in range(4):
        look = rng.normal(size=stores.WIDTH)
        for place, camera in enumerate("ab"):
            light = 0.2 * rng.normal(size=stores.WIDTH)
            rows += [
                stores.row(
                    f"{vehicle}{camera}{n}",
                    n,
                    camera=camera,
                    track=f"t{vehicle}",
                    time=NOON + timedelta(seconds=100 * vehicle + 60 * place + n / 10),
                    embedding=look + light + 0.05 * rng.normal(size=stores.WIDTH),
                )
                for n in range(60)
            ]
    gallery = stores.open_gallery()
    gallery.merge(rows, insert=True)
    assert gallery.link(max_distance=8, progress=False).counts["vehicles"] == 4


def test_tracks_of_unknown_cameras_are_those_of_their_folder() -> None:
    gallery = stores.open_gallery()
    rows = [
        stores.row(f"{film}{n}", 10 * film + n, image=f"/{film}/{n}.png", track="1")
        for film in (1, 2)
        for n in range(3)
    ]
    gallery.merge(rows, insert=True)
    groups = gallery.link(max_distance=1e-6, progress=False).vehicles
    assert groups.tolist() == [0, 0, 0, 1, 1, 1]


def test_vehicles_are_written_in_one_commit() -> None:
    # Of two, a kill would leave two numberings that share numbers.
    gallery = stores.open_gallery()
    fields = {one.name: pa.nulls(60_000, one.type) for one in gallery.table.schema}
    fields["id"] = pa.array(map(str, range(60_000)))
    gallery.table.add(pa.table(fields, schema=gallery.table.schema))
    before = gallery.table.version
    gallery.merge([{"id": str(number), "vehicle": number} for number in range(60_000)])
    assert gallery.table.version == before + 1 and gallery.count("vehicle is not null") == 60_000


def test_no_two_of_a_linked_vehicle_are_too_far_apart_in_a_dense_gallery() -> None:
    # Far more rows of one look than neighbours that are looked at: what is not among these is
    # unknown, which is not near.
    rng = np.random.default_rng(0)
    vehicles, sightings = 60, 10
    truth = np.repeat(np.arange(vehicles), sightings)
    embeddings = rng.normal(size=(vehicles, stores.WIDTH))[truth]
    embeddings = (embeddings + 0.7 * rng.normal(size=embeddings.shape)).astype(np.float32)
    distances = squared_distances(embeddings, embeddings)
    limit = float(np.quantile(distances[truth[:, None] < truth], 0.01))
    unknown = seen(np.full(len(truth), -1), np.full(len(truth), np.nan))
    near = neighbors_of(embeddings, 8)
    found = link(embeddings, *near, unknown, max_distance=limit)
    together = found[:, None] == found
    assert distances[together].max() <= 1.5 * limit
    assert np.bincount(found).max() <= 2 * sightings
    assert precision_and_recall(found, truth)[0] > 0.5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 25), st.floats(0.1, 20))
def test_complete_linkage_keeps_all_of_a_group_near(seed: int, count: int, limit: float) -> None:
    points = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    groups = complete_linkage(points, limit)
    distances = squared_distances(points, points)
    together = groups[:, None] == groups
    assert distances[together].max() <= limit
    # No two groups could be one: in each pair of them two images are too far apart.
    for a in set(groups):
        for b in set(groups) - {a}:
            assert distances[np.ix_(groups == a, groups == b)].max() > limit
    assert groups[0] == 0 and list(dict.fromkeys(groups)) == list(range(groups.max() + 1))
