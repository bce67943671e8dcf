"""Images as vehicles: mutual neighbours, one appearance per camera and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import combinations, pairwise
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
from multitasknet.gallery.linking import Sightings, complete_linkage, link, travel_times
from multitasknet.ranking.distances import nearest, squared_distances

NOON = datetime(2026, 11, 1, 12)
# The least and most seconds from camera 1 to 2, back, or both.
SLOW = dict.fromkeys([(1, 2), (2, 1)], (30.0, 90.0))
ONWARDS = dict.fromkeys([(1, 3), (1, 2), (2, 3)], (10.0, 60.0))


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


@pytest.mark.parametrize(
    ("points", "cameras", "first", "more", "vehicles"),
    [
        # Mutual neighbours across cameras.
        ([0, 0.1, 5, 5.1, 9], [1, 2, 1, 2, 3], [0, 9, 0, 9, 20], {}, [0, 0, 1, 1, 2]),
        # The second is the third's nearest of camera 1, but has a nearer one in camera 2.
        ([0, 0.3, 0.7], [2, 1, 2], [0, 9, 20], {"max_distance": 0.3}, [0, 0, 1]),
        ([0, 2], [1, 2], [0, 9], {}, [0, 1]),
        # Each is the next one's neighbour, 0.9 apart; the ends of three are 3.24 apart.
        ([0, 0.9, 1.81, 2.73], [1, 2, 3, 4], [0, 9, 20, 30], {}, [0, 0, 1, 1]),
        # Where few neighbours are looked at, the distances of the others count all the same.
        ([0, 0.1, 0.2, 0.3], [1, 2, 3, 4], [0, 9, 20, 30], {"count": 3}, [0, 0, 0, 0]),
        # A camera sees a vehicle once in a window.
        ([0, 0.1, 0.2], [1, 1, 2], [0, 0.5, 9], {}, [0, 1, 1]),
        ([0, 0.1, 0.2], [1, 1, 2], [0, 5, 9], {}, [0, 0, 0]),
        ([0, 0.1, 0.2], [1, 1, 2], [0, np.nan, 9], {}, [0, 0, 0]),
        ([0, 0.1, 0.2], [-1, -1, -1], [0, 0, 0], {}, [0, 0, 0]),
        # Tracks of one camera overlap, do not, or one lies within the other.
        ([0, 0.1, 0.2], [1, 1, 2], [0, 4, 60], {"last": [5, 9, 65], "window": 1e-6}, [0, 1, 1]),
        ([0, 0.1, 0.2], [1, 1, 2], [0, 5.1, 60], {"last": [5, 9, 65], "window": 1e-6}, [0, 0, 0]),
        ([0, 0.1, 0.2], [1, 1, 2], [0, 2, 60], {"last": [9, 3, 65], "window": 1e-6}, [0, 1, 1]),
        # Rows of one time may have gone either way.
        ([0, 0.1], [1, 2], [5, 5], {"bounds": {(1, 2): (30, 90)}}, [0, 0]),
        ([0, 0.1], [1, 2], [5, 5], {"bounds": {(2, 1): (30, 90)}}, [0, 0]),
        ([0, 0.1], [1, 2], [5, 5], {"bounds": SLOW}, [0, 1]),
        # The first's nearest of camera 2 was there too early, which does not hide the next one.
        ([0, 0.1, -0.3], [1, 2, 2], [0, 5, 60], {}, [0, 0, 0]),
        ([0, 0.1, -0.3], [1, 2, 2], [0, 5, 60], {"bounds": SLOW}, [0, 1, 0]),
        # The longest time is that to the next camera.
        ([0, 0.1, 0.2], [1, 2, 3], [0, 50, 100], {"bounds": ONWARDS}, [0, 0, 0]),
        ([0, 5, 0.2], [1, 2, 3], [0, 50, 100], {"bounds": ONWARDS}, [0, 1, 2]),
        # What was pinned stays together and apart.
        ([0, 0.1, 0.2, 9], [1, 2, 3, 4], [0, 9, 20, 30], {}, [0, 0, 0, 1]),
        ([0, 0.1, 0.2, 9], [1, 2, 3, 4], [0, 9, 20, 30], {"pinned": [7, 8, -1, 7]}, [0, 1, 1, 0]),
    ],
)  # fmt: skip
def test_which_images_are_one_vehicle(
    points: list, cameras: list, first: list, more: dict[str, Any], vehicles: list
) -> None:
    array = np.array(points, np.float32)[:, None]
    limit, count = more.get("max_distance", 1.0), more.get("count", 50)
    sight = {name: one for name, one in more.items() if name not in ("max_distance", "count")}
    near = neighbors_of(array, count)
    found = link(array, *near, seen(cameras, first, **sight), max_distance=limit)
    assert found.tolist() == vehicles


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999), st.integers(3, 40))
def test_no_vehicle_is_in_two_places_or_too_fast_or_too_slow(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 2)).astype(np.float32)
    first = rng.uniform(0, 300, count)
    first[rng.random(count) < 0.1] = np.nan
    last = first + rng.uniform(0, 20, count)
    pinned = np.where(rng.random(count) < 0.2, rng.integers(3, size=count), -1)
    bounds = {(a, b): (20.0, 80.0) for a in range(3) for b in range(3) if a != b}
    where = np.append([0, 1, 2], rng.integers(-1, 3, count - 3))
    for pins in (None, pinned):
        sight = seen(where, first, last, window=1e-6, bounds=bounds, pinned=pins)
        groups = link(points, *neighbors_of(points, 50), sight, max_distance=4)
        for group in range(groups.max() + 1):
            rows = np.flatnonzero(groups == group)
            pins_in = {pinned[row] for row in rows} - {-1}
            assert pins is None or len(pins_in) <= 1
            # What was pinned together is believed, whatever its times.
            if pins is not None and pins_in:
                continue
            known = sorted(rows[~np.isnan(first[rows])], key=lambda row: first[row])
            for a, b in combinations(known, 2):
                if min(where[a], where[b]) >= 0:
                    assert first[b] - last[a] >= (1e-6 if where[a] == where[b] else 20)
            for a, b in pairwise(known):
                if where[a] != where[b] and min(where[a], where[b]) >= 0:
                    assert first[b] - last[a] <= 80


def precision_and_recall(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Of pairs of images in one group."""
    first, second = np.triu_indices(len(found), k=1)
    together, same = found[first] == found[second], truth[first] == truth[second]
    right = (together & same).sum()
    return right / together.sum(), right / same.sum()


def test_learned_travel_times_tell_apart_what_looks_alike() -> None:
    # 80 vehicles of 8 looks pass three cameras, 40 and 70 seconds apart.
    rng = np.random.default_rng(1)
    looks = rng.normal(size=(8, 32))
    truth, cameras = np.repeat(np.arange(80), 3), np.tile([0, 1, 2], 80)
    start = np.repeat(rng.uniform(0, 3600, 80), 3) + np.tile([0, 45, 120], 80)
    start += 3 * rng.normal(size=240)
    points = looks[truth % 8] + 0.4 * rng.normal(size=(240, 32))
    points = (points + 0.3 * rng.normal(size=(80, 32))[truth]).astype(np.float32)

    def linked(bounds: Any) -> tuple[np.ndarray, Sightings]:
        sight = seen(cameras, start, start + 5, window=1e-6, bounds=bounds)
        return link(points, *neighbors_of(points, 50), sight, max_distance=12), sight

    plain, sight = linked({})
    learned = travel_times(plain, sight)
    assert learned[0, 1].median == pytest.approx(40, abs=3)
    assert learned[1, 2].median == pytest.approx(70, abs=3)
    bounded, _ = linked({way: one.bounds for way, one in learned.items()})
    before, after = (precision_and_recall(one, truth) for one in (plain, bounded))
    assert after[0] > before[0] + 0.1 and after[1] > before[1]


def test_no_two_of_a_linked_vehicle_are_too_far_apart_in_a_dense_gallery() -> None:
    # Far more rows of one look than neighbours that are looked at: what is not among these is
    # unknown, which is not near.
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(60), 10)
    embeddings = rng.normal(size=(60, stores.WIDTH))[truth]
    embeddings = (embeddings + 0.7 * rng.normal(size=embeddings.shape)).astype(np.float32)
    distances = squared_distances(embeddings, embeddings)
    limit = float(np.quantile(distances[truth[:, None] < truth], 0.01))
    unknown = seen(np.full(len(truth), -1), np.full(len(truth), np.nan))
    found = link(embeddings, *neighbors_of(embeddings, 8), unknown, max_distance=limit)
    assert distances[found[:, None] == found].max() <= 1.5 * limit
    assert np.bincount(found).max() <= 20
    assert precision_and_recall(found, truth)[0] > 0.5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 25), st.floats(0.1, 20))
def test_complete_linkage_keeps_all_of_a_group_near(seed: int, count: int, limit: float) -> None:
    points = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    groups = complete_linkage(points, limit)
    distances = squared_distances(points, points)
    assert distances[groups[:, None] == groups].max() <= limit
    # No two groups could be one: in each pair of them two images are too far apart.
    for a, b in combinations(range(groups.max() + 1), 2):
        assert distances[np.ix_(groups == a, groups == b)].max() > limit
    assert list(dict.fromkeys(groups)) == list(range(groups.max() + 1))


# In a gallery


def test_a_gallery_knows_its_vehicles() -> None:
    colors = ((250, 0, 0), (0, 250, 0), (248, 0, 0), (0, 0, 250), (249, 2, 0))
    looks = [PixelPredictor().one(np.full((4, 4, 3), color, np.uint8)) for color in colors]
    gallery = stores.filled(
        *(
            stores.row(f"{n}", n, camera=f"c{n}", time=NOON - timedelta(hours=n), embedding=one)
            for n, one in enumerate(look.embedding for look in looks)
        )
    )
    expected = {"crops": 5, "vehicles": 3, "with several crops": 1, "max distance": 0.1}
    for _ in range(2):
        assert gallery.link(max_distance=0.1, progress=False).counts == expected
    assert stores.column(gallery, "vehicle") == [0, None, 0, None, 0]
    groups = gallery.group(max_distance=0.1)
    assert groups.vehicles.tolist() == [0, 1, 0, 2, 0] and groups.images[4] == Path("/4.png")
    assert gallery.group(max_distance=0.1, where="id <> '0'").vehicles.tolist() == [0, 1, 2, 1]
    with pytest.raises(GalleryError, match="no rows to group"):
        gallery.group(max_distance=0.1, where="id = 'nobody'")


def test_a_long_track_finds_other_cameras() -> None:
    # 60 rows of each track, nearer each other than another camera's.
    rng, rows = np.random.default_rng(0), []
    for vehicle in range(4):
        look = rng.normal(size=stores.WIDTH)
        for place, camera in enumerate("ab"):
            light = look + 0.2 * rng.normal(size=stores.WIDTH)
            start = NOON + timedelta(seconds=100 * vehicle + 60 * place)
            rows += [
                stores.row(f"{vehicle}{camera}{n}", n, camera=camera, track=f"t{vehicle}")
                | {"time": start + timedelta(seconds=n / 10)}
                | {"embedding": stores.halves(light + 0.05 * rng.normal(size=stores.WIDTH))}
                for n in range(60)
            ]
    assert stores.filled(*rows).link(max_distance=8, progress=False).counts["vehicles"] == 4


def test_rows_of_a_track_are_one_vehicle_whatever_their_times() -> None:
    gallery = stores.filled(
        *(
            stores.row(f"{n}", 1, camera="a", track=name, time=NOON + timedelta(seconds=n))
            for n, name in enumerate([*"tututu", *[""] * 94])
            if n < 6 or n == 90
        )
    )
    gallery.link(max_distance=2, progress=False)
    found = {row.id: row.vehicle for row in gallery.select("true")}
    assert found["0"] == found["2"] == found["4"] != found["1"] == found["3"] == found["5"]
    assert found["90"] in (found["0"], found["1"])


def test_tracks_of_unknown_cameras_are_those_of_their_folder() -> None:
    rows = [
        stores.row(f"{film}{n}", 10 * film + n, image=f"/{film}/{n}.png", track="1")
        for film in (1, 2)
        for n in range(3)
    ]
    groups = stores.filled(*rows).link(max_distance=1e-6, progress=False).vehicles
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
