"""Which surfaces of the vehicle make two crops alike: each is hidden in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from ..images import Picture, fill_polygon
from ..vehicle.keypoints import SURFACE_NAMES, corners_of, facing_surfaces
from ..vehicle.pose import Pose

# Of the cosine similarity: less than this is noise.
_AGREES = 0.01
# Pixels for one of the network's, a side.
_ENOUGH = 4


@dataclass(frozen=True)
class Part:
    """A surface of the vehicle, as two crops show it.

    Attributes:
        surface: its name, of ``vehicle.keypoints.SURFACE_NAMES``.
        seen_in_both: whether it faces the camera in both crops.
        contribution: how much the cosine similarity of the embeddings falls when it is hidden, the
            mean of hiding it in both crops and in one; below zero where it makes them less alike.
            None unless it is seen in both.
    """

    surface: str
    seen_in_both: bool
    contribution: float | None

    @property
    def agrees(self) -> bool:
        """Whether it makes the crops noticeably more alike."""
        return self.contribution is not None and self.contribution >= _AGREES


def shared_surfaces(poses: Sequence[Pose]) -> list[int]:
    """The surfaces that face the camera in both of two crops; none where a pose is missing."""
    first, second = (facing_surfaces(pose.keypoints) for pose in poses)
    return [surface for surface in first if surface in second]


def hide_shared(
    pictures: Sequence[Picture], poses: Sequence[Pose], size: tuple[int, int]
) -> tuple[list[Picture], list[np.ndarray | None]]:
    """What to embed: each of two crops as it is, then with each shared surface hidden alone.

    The crops and their keypoints; none if they share no surface. The pose stays, so that only the
    picture changes. Crops of far more pixels than the network's ``size`` are made smaller.
    """
    shared = shared_surfaces(poses)
    crops: list[Picture] = []
    keypoints: list[np.ndarray | None] = []
    for picture, pose in zip(pictures, poses, strict=True) if shared else ():
        pixels, reduced = _reduced(picture, pose, size)
        shown = [pixels, *(hide_surface(pixels, reduced, surface) for surface in shared)]
        crops += [Picture(picture.name, pixels=one) for one in shown]
        keypoints += [reduced] * len(shown)
    return crops, keypoints


def _reduced(picture: Picture, pose: Pose, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The picture's pixels, and the keypoints in them."""
    pixels, divisor = picture.decode(size)
    further = max(min(pixels.shape[:2]) // (_ENOUGH * max(size)), 1)
    if further > 1:
        scale = 1 / further
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return pixels, pose.scaled(1 / (divisor * further)).keypoints


def hide_surface(pixels: np.ndarray, keypoints: np.ndarray, surface: int) -> np.ndarray:
    """The picture, uint8 ``[H, W, 3]``, with a surface in its mean colour.

    What is found so holds best under other ways of hiding, too (docs/search.md).
    """
    height, width = pixels.shape[:2]
    (corners,) = corners_of(keypoints, [surface])
    covered = pixels.copy()
    covered[fill_polygon(corners, height=height, width=width) > 0] = pixels.mean((0, 1))
    return covered


def parts_of(poses: Sequence[Pose], embeddings: np.ndarray) -> tuple[Part, ...]:
    """Each surface's contribution, 13 in the order of ``SURFACES``; none where a pose is missing.

    ``embeddings`` ``[N, D]`` are of what :func:`hide_shared` returned for the two crops' poses.
    """
    if any(pose.origin == "neutral" for pose in poses):
        return ()
    shared = shared_surfaces(poses)
    falls = dict(zip(shared, _falls(embeddings), strict=True)) if shared else {}
    return tuple(
        Part(name, surface in falls, falls.get(surface))
        for surface, name in enumerate(SURFACE_NAMES)
    )


def _falls(embeddings: np.ndarray) -> list[float]:
    # In both alone would say nothing of two crops that are the same; in one alone predicts less
    # well what hiding in both does.
    unit = embeddings.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    of_first, of_second = np.split(unit, 2)
    first, hidden_in_first = of_first[0], of_first[1:]
    second, hidden_in_second = of_second[0], of_second[1:]
    alike = first @ second
    in_both = (hidden_in_first * hidden_in_second).sum(1)
    in_one = (hidden_in_first @ second + hidden_in_second @ first) / 2
    return (alike - (in_both + in_one) / 2).tolist()


def agreement_in_words(parts: Sequence[Part]) -> str:
    """What two crops show both, in a line."""
    if not parts:
        return "which surfaces both show is not known"
    seen = [part.surface for part in parts if part.seen_in_both]
    if set(seen) <= {"roof"}:
        return "nothing seen in both" + (" but the roof" if seen else "")
    agreeing = sum(part.agrees for part in parts)
    return f"{len(seen)} of {len(parts)} surfaces seen in both, {agreeing} of them agreeing"


def agreement_as_json(parts: Sequence[Part]) -> dict[str, Any]:
    """As JSON takes it: the parts, and the line."""
    found = [asdict(part) | {"agrees": part.agrees} for part in parts]
    return {"agreement": agreement_in_words(parts), "parts": found}
