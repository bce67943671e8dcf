"""What a camera's images have in common is taken away: alone, and to group and link a gallery."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
import stores

from multitasknet.errors import DataError
from multitasknet.ranking.centering import center_cameras
from multitasknet.ranking.distances import squared_distances
from multitasknet.ranking.metrics import evaluate_ranking

VEHICLES, CAMERAS = 60, 4


def cast() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of each vehicle before each camera, which adds its own; vehicles; cameras."""
    rng = np.random.default_rng(0)
    ids, cameras = np.repeat(np.arange(VEHICLES), CAMERAS), np.tile(np.arange(CAMERAS), VEHICLES)
    own = rng.normal(size=(VEHICLES, stores.WIDTH))[ids]
    noise = 0.4 * rng.normal(size=own.shape)
    return own + noise + 3 * rng.normal(size=(CAMERAS, stores.WIDTH))[cameras], ids, cameras


def quality(embeddings: np.ndarray, ids: np.ndarray, cameras: np.ndarray) -> float:
    first = cameras == 0
    labels = (half for one in (ids, cameras) for half in (one[first], one[~first]))
    distances = squared_distances(embeddings[first], embeddings[~first])
    return evaluate_ranking(distances, *labels).mAP


def test_vehicles_are_found_across_cameras_with_casts_of_their_own() -> None:
    embeddings, ids, cameras = cast()
    centered = center_cameras(embeddings, cameras)
    assert quality(embeddings, ids, cameras) < 0.7 < 0.9 < quality(centered, ids, cameras)
    # Unit length stays unit length, so distances are still those of angles.
    lengths = (np.linalg.norm(one, axis=1) for one in (centered, embeddings))
    np.testing.assert_allclose(*lengths, rtol=1e-5)


def test_images_of_small_and_unknown_cameras_lose_the_mean_of_all() -> None:
    embeddings, _, cameras = cast()
    cameras = np.where((cameras == 3) & (np.arange(len(cameras)) > 150), 9, cameras)
    cameras[cameras == 2] = -1
    centered, mean = center_cameras(embeddings, cameras), embeddings.mean(axis=0)
    for one in (-1, 3, 9):
        left = embeddings[cameras == one] - mean
        left *= (np.linalg.norm(embeddings[cameras == one], axis=1) / np.linalg.norm(left, axis=1))[
            :, None
        ]
        np.testing.assert_allclose(centered[cameras == one], left, rtol=1e-4, atol=1e-5)
    # A camera that saw one thing alone has nothing left, and no NaN.
    same = np.concatenate([np.ones((50, 3)), np.eye(3)])
    assert not center_cameras(same, np.array([1] * 50 + [-1] * 3))[:50].any()


def test_without_a_large_camera_there_is_no_mean_to_take_away() -> None:
    for cameras in (np.arange(240) % 5, np.full(240, -1)):
        with pytest.raises(DataError, match=r"none of the cameras of 240 images took 50"):
            center_cameras(np.ones((240, 2)), cameras)


def test_a_gallery_is_grouped_and_linked_without_its_cameras() -> None:
    embeddings, ids, cameras = cast()
    gallery, noon = stores.open_gallery(), datetime(2026, 11, 1, 12)
    rows = [
        stores.row(f"{n}", n, embedding=one, camera=f"c{camera}", time=noon + timedelta(minutes=n))
        for n, (one, camera) in enumerate(zip(embeddings, cameras, strict=True))
    ]
    gallery.merge(rows, insert=True)
    limit = gallery.centered_rates().distance_at(0.01)
    first, second = np.triu_indices(len(ids), k=1)
    for find in (gallery.group, lambda **how: gallery.link(**how, progress=False)):
        right = {}
        for centered in (False, True):
            found = find(max_distance=limit, center_cameras=centered)
            places = [int(path.stem) for path in found.images]
            vehicles = found.vehicles[np.argsort(places)]
            together = vehicles[first] == vehicles[second]
            right[centered] = int((together & (ids[first] == ids[second])).sum())
        assert right[False] < 20 < 150 < right[True]
