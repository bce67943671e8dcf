"""Image and pose change together."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multitasknet.data.records import Split
from multitasknet.training.augmentation import augment, erase, jitter, mirror, random_crop
from multitasknet.training.batches import Draw, FeatureSource
from multitasknet.training.settings import IdentitySettings
from multitasknet.vehicle.keypoints import visible_surfaces
from multitasknet.vehicle.maps import draw_heatmaps, draw_segments
from multitasknet.vehicle.sample import Sample

HEIGHT, WIDTH = 90, 120


def sample(seed: int = 0, maps: int = 49) -> Sample:
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform(0, 90, (36, 3)).astype(np.float32)
    keypoints[:, 2] = rng.uniform(0, 1, 36)
    return Sample(
        rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8),
        keypoints,
        rng.integers(0, 256, (maps, 64, 64), dtype=np.uint8),
    )


def same(a: Sample, b: Sample) -> bool:
    return (
        np.array_equal(a.pixels, b.pixels)
        and np.allclose(a.keypoints, b.keypoints, atol=1e-4)
        and np.array_equal(a.maps, b.maps)
    )


@given(st.integers(0, 1000), st.sampled_from([0, 13, 36, 49]), st.booleans())
def test_mirroring_twice_changes_nothing(seed, maps, swap) -> None:
    once = mirror(sample(seed, maps), swap=swap)
    assert same(mirror(once, swap=swap), sample(seed, maps))


@pytest.mark.parametrize("swap", [True, False])
def test_mirroring_exchanges_left_and_right_everywhere_but_as_in_the_paper(swap) -> None:
    before = sample()
    after = mirror(before, swap=swap)
    other = 21 if swap else 3
    np.testing.assert_allclose(after.keypoints[3, 0], WIDTH - 1 - before.keypoints[other, 0])
    np.testing.assert_array_equal(after.keypoints[3, 1:], before.keypoints[other, 1:])
    surfaces = [3, 4, 5, 0, 1, 2, *range(6, 13)] if swap else range(13)
    maps = [other, *(36 + one for one in surfaces)]
    for ours, theirs in zip([3, *range(36, 49)], maps, strict=True):
        np.testing.assert_array_equal(after.maps[ours], before.maps[theirs][:, ::-1])


def test_a_mirrored_segment_is_the_segment_of_mirrored_keypoints() -> None:
    keypoints = np.zeros((36, 3), dtype=np.float32)
    keypoints[[15, 16, 34, 33]] = [(20, 10, 1), (60, 12, 1), (58, 40, 1), (24, 44, 1)]
    assert visible_surfaces(keypoints) == [11]
    after = mirror(Sample(np.zeros((64, 64, 3), np.uint8), keypoints, np.zeros((0, 64, 64))))
    drawn = draw_segments(keypoints, width=64, height=64)[11]
    mirrored = draw_segments(after.keypoints, 64, 64)[11]
    # OpenCV rounds a slanted edge to one side.
    assert (mirrored != drawn[:, ::-1]).mean() < 0.002


def test_a_crop_moves_keypoints_and_heatmaps_together() -> None:
    keypoints = np.full((36, 3), (60, 45, 1), dtype=np.float32)
    before = Sample(
        np.zeros((HEIGHT, WIDTH, 3), np.uint8), keypoints, draw_heatmaps(keypoints, WIDTH, HEIGHT)
    )
    # The loader stretches maps onto the picture; there, the peak lies at this pixel.
    row, column = np.unravel_index(before.maps[0].argmax(), (64, 64))
    stretched = (np.array([column, row]) + 0.5) * (WIDTH, HEIGHT) / 64
    for seed in range(8):
        after = random_crop(before, 1.5, np.random.default_rng(seed))
        assert after.pixels.shape == (60, 80, 3)
        moved = before.keypoints[0, :2] - after.keypoints[0, :2]
        expected = (stretched - moved) * 64 / (80, 60) - 0.5
        row, column = np.unravel_index(after.maps[0].argmax(), (64, 64))
        assert abs(np.array([column, row]) - expected).max() < 1.5


def test_jitter_keeps_the_hue() -> None:
    rng = np.random.default_rng(0)
    color = np.array([[[150, 60, 90]]], dtype=np.uint8)
    hue = colorsys.rgb_to_hsv(*color[0, 0] / 255)[0]
    for _ in range(20):
        changed = jitter(color, 0.2, rng)
        assert colorsys.rgb_to_hsv(*changed[0, 0] / 255)[0] == pytest.approx(hue, abs=0.01)


def test_erasing_covers_a_fifth_at_most_and_spares_the_original() -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    for seed in range(20):
        covered = (erase(pixels, np.random.default_rng(seed)) > 0).all(axis=2).mean()
        assert 0.01 < covered < 0.21
    assert not pixels.any()


def test_an_images_changes_depend_on_seed_epoch_process_image_and_place_alone() -> None:
    def changed(*draw: int, index: int = 3, place: int = 4) -> Sample:
        return augment(sample(), IdentitySettings(), Draw(*draw).generator(index, place))

    first = changed(1, 2)
    assert same(changed(1, 2), first)
    others = [changed(*one) for one in ((0, 2), (1, 1), (1, 2, 1))]
    others += [changed(1, 2, index=4), changed(1, 2, place=5)]
    assert not any(same(one, first) for one in others)


def test_features_are_mirrored_differently_in_every_epoch_and_process() -> None:
    features = np.arange(2 * 4 * 1024, dtype=np.float32).reshape(2, 4, 1024)
    poses, labels = np.zeros((2, 4, 108), np.float32), np.zeros((3, 4), np.int32)
    source = FeatureSource(Split("train"), (features, poses), labels)
    batches = np.array([[0, 0, 0, 0]] * 8)

    def views(epoch: int = 0, rank: int = 0) -> list[list[bool]]:
        used = source.read(batches, Draw(0, epoch, rank))
        return [(batch.inputs[0].asnumpy()[:, 0] > 0).tolist() for batch in used]

    assert any(len(set(batch)) == 2 for batch in views())
    assert views() == views()
    assert views() not in (views(epoch=1), views(rank=1))
