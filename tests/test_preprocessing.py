"""From image and keypoints to the network's inputs, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multitasknet import preprocess
from multitasknet.images import resize
from multitasknet.models.multitasknet.preprocessing import pose_vector, write_inputs
from multitasknet.vehicle.keypoints import SURFACES, visible_surfaces
from multitasknet.vehicle.maps import draw_heatmaps, draw_segments
from multitasknet.vehicle.sample import Sample


def square_pose(width: int, height: int) -> np.ndarray:
    """All keypoints without confidence, but the roof's, a rectangle in the image's middle half."""
    pose = np.zeros((36, 3), dtype=np.float32)
    corners = [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)]
    for keypoint, (x, y) in zip(SURFACES[9], corners, strict=True):
        pose[keypoint] = (x * width, y * height, 1)
    return pose


def test_resize_by_hand() -> None:
    for row, expected in (
        # No antialiasing: from 8 to 2, centres 1.5 and 5.5 see two pixels each, not four.
        ([0, 0, 255, 0, 0, 0, 255, 0], [128, 128]),
        # Enlarged 2 to 4: centres -0.25, 0.25, 0.75, 1.25, the outer two held at the border.
        ([0, 200], [0, 50, 150, 200]),
    ):
        square, length = np.tile(np.array(row, np.uint8), (len(row), 1)), len(expected)
        np.testing.assert_array_equal(resize(square, (length, length)), [expected] * length)


@pytest.mark.parametrize(
    ("variant", "channels"),
    [("rgb", 3), ("segment", 16), ("heatmap", 39), ("heatmap+segment", 52)],
)
def test_rgb_is_normalised_and_without_a_pose_there_is_no_confidence_and_no_map(
    variant: str, channels: int
) -> None:
    x, p = preprocess(np.full((20, 30, 3), (10, 100, 250), np.uint8), None, variant, (64, 96))
    assert (x.shape, p.shape, x.dtype, p.dtype) == ((channels, 64, 96), (108,), *[np.float32] * 2)
    colors = np.array([10, 100, 250]) / 255
    expected = (colors - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(x[:3].transpose(1, 2, 0), np.tile(expected, (64, 96, 1)), atol=1e-5)
    np.testing.assert_allclose(x[3:], -0.449 / 0.226, atol=1e-5)
    np.testing.assert_allclose(p[2::3], -0.5)


def test_the_pose_vector_is_relative_to_the_image() -> None:
    pose = np.zeros((36, 3))
    pose[1:3] = (100, 50, 1), (-20, 75, 1.12)
    p = pose_vector(pose, width=100, height=50)
    np.testing.assert_allclose(p[:9], [-0.5, -0.5, -0.5, 0.5, 0.5, 0.5, -0.7, 1.0, 0.62], atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([32, 64, 96]), st.integers(0))
def test_maps_go_to_the_images_size_and_then_to_the_networks(
    height: int, width: int, target: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, 256, (3, 64, 64)) * (rng.random((3, 64, 64)) < 0.001)
    maps = maps.astype(np.uint8)
    x = np.empty((6, target, 32), dtype=np.float32)
    pixels, pose = np.zeros((height, width, 3), dtype=np.uint8), np.zeros((36, 3), np.float32)
    write_inputs(Sample(pixels, pose, maps), {"image": x})
    # All three as one picture's channels, in one resize after the other.
    plain = resize(resize(maps.transpose(1, 2, 0), (height, width)), (target, 32))
    np.testing.assert_allclose(x[3:], (plain.transpose(2, 0, 1) / 255 - 0.449) / 0.226, atol=1e-5)


def test_a_segment_is_the_surfaces_filled_polygon_and_may_reach_out_of_the_image() -> None:
    x, _ = preprocess(np.zeros((200, 160, 3), dtype=np.uint8), square_pose(160, 200), "segment")
    maps = x[3:] * 0.226 + 0.449
    assert maps[9, 128, 128] == pytest.approx(1, abs=1e-5)
    assert maps[9].mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(np.delete(maps, 9, axis=0), 0, atol=1e-5)
    pose = square_pose(100, 100)
    pose[list(SURFACES[9]), :2] = [(-50, -50), (50, -50), (50, 50), (-50, 50)]
    drawn = draw_segments(pose, width=100, height=100)[9]
    assert drawn[:31, :31].min() == 255 and drawn[34:, 34:].max() == 0


def test_a_segment_that_is_unsure_or_not_convex_is_left_out() -> None:
    corners = list(SURFACES[9])
    sure, unsure, crossed = (square_pose(100, 100) for _ in range(3))
    unsure[corners[0], 2] = 0.49
    crossed[corners[:2]] = crossed[corners[1::-1]]
    assert [visible_surfaces(pose) for pose in (sure, unsure, crossed)] == [[9], [], []]
    # Convexity is decided on rounded corners: a dent of less than half a pixel is a straight line
    # then, and so is what is convex by less than that.
    for y, found in ((10.4, []), (10, []), (9.6, []), (9.4, [9])):
        sure[corners, :2] = [(10, 10), (50, y), (90, 10), (50, 90)]
        assert visible_surfaces(sure) == found


def test_a_heatmap_lies_in_the_pose_networks_square() -> None:
    # Of 1.25 times the longer side, around the centre: in a 128 x 192 image 240 pixels, of which
    # a map pixel covers 3.75.
    pose = np.zeros((36, 3), dtype=np.float32)
    pose[4:7] = (64, 96, 0.6), (64 + 37.5, 96 - 75, 1.12), (900, 900, 1)
    maps = draw_heatmaps(pose, width=128, height=192)
    assert maps.shape == (36, 64, 64)
    assert [divmod(maps[k].argmax(), 64) for k in (4, 5)] == [(32, 32), (12, 42)]
    assert maps[:7].max((1, 2)).tolist() == [0, 0, 0, 0, int(0.6 * 255), 255, 0]
    assert maps[4, 32, 34] == int(0.6 * 255 * np.exp(-0.5))  # one sigma is two map pixels


@pytest.mark.parametrize("keypoints", [np.zeros((35, 3)), np.full((36, 3), np.nan)])
def test_what_is_no_pose_is_refused(keypoints: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"keypoints (have shape \(35, 3\)|hold NaN)"):
        preprocess(np.zeros((9, 9, 3), np.uint8), keypoints)
