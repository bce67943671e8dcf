"""Which surfaces of the vehicle make two crops alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from stores import PixelPredictor

from multitasknet.cli import main
from multitasknet.images import Picture
from multitasknet.inference.agreement import Part, agreement_in_words, hide_shared, parts_of
from multitasknet.inference.prediction import Prediction
from multitasknet.report.overlay import draw_agreement
from multitasknet.vehicle.keypoints import MIRRORED_KEYPOINTS, SURFACE_NAMES, facing_surfaces
from multitasknet.vehicle.pose import Pose

SIZE = (64, 64)
NOISE = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
# Keypoints of one side from the roof's far edge down, and where the left side is.
ENDS = {"front": ((13, 14, 15, 16, 17), 50), "rear": ((14, 13, 12, 11, 10), 10)}
FRONT = {"windscreen", "bonnet", "front end"}


def seen_from(end: str, *, roof: bool = False) -> np.ndarray:
    """A vehicle straight before the camera, in a picture of 60 x 60 pixels."""
    pose = np.zeros((36, 3), np.float32)
    keypoints, left = ENDS[end]
    for place in range(0 if roof else 1, 5):
        pose[keypoints[place]] = left, 10 + 10 * place, 1
        pose[keypoints[place] + 18] = 60 - left, 10 + 10 * place, 1
    return pose


def facing(pose: np.ndarray) -> set[str]:
    return {SURFACE_NAMES[one] for one in facing_surfaces(pose)}


def compared(first: np.ndarray | None, second: np.ndarray | None) -> tuple[Part, ...]:
    """The same picture of noise under two poses; pixels are its embedding."""
    poses = Pose.of(first), Pose.of(second)
    crops, keypoints = hide_shared([Picture("noise", pixels=NOISE)] * 2, poses, SIZE)
    assert len(crops) == len(keypoints)
    return parts_of(poses, np.array([one.decode()[0].ravel() - 127.5 for one in crops]))


def test_what_faces_the_camera_is_not_what_lies_on_the_far_side() -> None:
    front = seen_from("front")
    assert facing(front) == FRONT
    assert facing(front[MIRRORED_KEYPOINTS]) == set()  # seen from within
    left = np.zeros((36, 3), np.float32)  # of one that drives to the left
    left[[5, 6, 12, 15]] = [(20, 50, 1), (40, 50, 1), (40, 30, 1), (20, 30, 1)]
    assert facing(left) == {"left doors"}
    assert facing(left[MIRRORED_KEYPOINTS] * (-1, 1, 1) + (60, 0, 0)) == {"right doors"}


def test_identical_crops_agree_in_all_that_is_seen() -> None:
    parts = compared(seen_from("front"), seen_from("front"))
    assert [part.surface for part in parts] == list(SURFACE_NAMES)
    for part in parts:
        assert part.seen_in_both == part.agrees == (part.surface in FRONT)
        assert (part.contribution is not None) == part.seen_in_both
    assert agreement_in_words(parts) == "3 of 13 surfaces seen in both, 3 of them agreeing"


def test_front_against_rear_shows_nothing_in_both_and_without_a_pose_nothing_is_known() -> None:
    for roof, words in (
        (False, "nothing seen in both"),
        (True, "nothing seen in both but the roof"),
    ):
        parts = compared(seen_from("front", roof=roof), seen_from("rear", roof=roof))
        assert agreement_in_words(parts) == words
        assert [part.surface for part in parts if part.seen_in_both] == ["roof"] * roof
    assert compared(seen_from("front"), None) == ()
    assert agreement_in_words(()) == "which surfaces both show is not known"


def test_only_the_surface_is_hidden_and_large_crops_are_made_smaller() -> None:
    poses = Pose.of(seen_from("front") * (20, 20, 1)), Pose.of(seen_from("front"))
    large = np.repeat(np.repeat(NOISE, 20, 0), 20, 1)
    pictures = [Picture("large", pixels=large), Picture("small", pixels=NOISE)]
    crops, keypoints = hide_shared(pictures, poses, SIZE)
    assert [one.shape for one in crops] == [(300, 300)] * 4 + [(60, 60)] * 4
    np.testing.assert_allclose(keypoints[0][17], [249.6, 249.6, 1], atol=0.5)
    whole, *hidden = [one.decode()[0] for one in crops[4:]]
    for one in hidden:
        rows, columns = np.nonzero((one != whole).any(2))
        assert columns.min() >= 10 and columns.max() <= 50 and 20 <= rows.min() <= rows.max() <= 50
        assert len(np.unique(one[rows, columns], axis=0)) == 1


class PosedPredictor(PixelPredictor):
    """Takes a picture for the front where its first pixel is black."""

    def one(self, pixels: np.ndarray, keypoints: np.ndarray | None = None) -> Prediction:
        return super().one(pixels, seen_from("rear" if pixels[0, 0, 0] else "front", roof=True))


def test_the_command_says_and_draws_what_agrees(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("multitasknet.cli.search.make_predictor", lambda _: PosedPredictor())
    for end, corner in zip(ENDS, (0, 255), strict=True):
        pixels = NOISE.copy()
        pixels[0, 0] = corner
        Image.fromarray(pixels).save(tmp_path / f"{end}.png")
    front, rear, drawn = (str(tmp_path / f"{name}.png") for name in (*ENDS, "new/both"))
    assert main(["compare", front, front, "--output", drawn]) == 0
    out = capsys.readouterr().out
    assert "4 of 13 surfaces seen in both" in out and "windscreen" in out and "boot" not in out
    assert Image.open(drawn).size == (2 * 480 + 12, 480)
    assert main(["compare", front, rear]) == 0
    assert "nothing seen in both but the roof" in capsys.readouterr().out
    assert main(["compare", front, rear, "--output", front]) == 2


def test_agreeing_surfaces_are_filled_and_others_outlined() -> None:
    gray, pose = Image.new("RGB", (60, 60), "gray"), seen_from("front")
    bonnet, front = SURFACE_NAMES.index("bonnet"), SURFACE_NAMES.index("front end")
    both = draw_agreement([gray] * 2, [pose] * 2, [bonnet, front], {bonnet: 0.1})
    for offset in (0, 492):
        red, green, blue = both.getpixel((offset + 100, 8 * 35))
        assert green > red and green > blue
        assert both.getpixel((offset + 100, 8 * 45)) == both.getpixel((3, 3)) == (128, 128, 128)
        assert both.getpixel((offset + 240, 8 * 50)) == (255, 255, 255)
