"""A vehicle's pose in one picture, and where it is from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from .keypoints import MIRRORED_KEYPOINTS, SEEN_FROM, check_keypoints, pose_or_zeros

PoseOrigin: TypeAlias = Literal["given", "estimated", "neutral"]
# What a keypoint's confidence means. "published": the height of PoseEstNet's map, for hidden
# keypoints too, which it finds as well as it can. "visibility": 1 where a keypoint is seen, less
# than 0.5 where something hides it.
PoseConvention: TypeAlias = Literal["published", "visibility"]
POSE_CONVENTIONS: tuple[str, ...] = get_args(PoseConvention)
# Where hidden keypoints are placed under each convention, in words.
HIDDEN: dict[str, PoseConvention] = {"true": "visibility", "published": "published"}
# The published network's median confidences on real crops, where people see a keypoint or not.
_PUBLISHED_SEEN, _PUBLISHED_HIDDEN = 0.93, 0.75
# How far towards their counterparts hidden ones go: wheels and arches of the far side then lie
# 0.18 of the longer side off (median, generated vehicles), as that network's do on real ones.
_ASIDE = 0.38


@dataclass(frozen=True, eq=False)
class Pose:
    """36 keypoints.

    Attributes:
        keypoints: float32 ``[36, 3]`` of x, y (pixels of the picture) and confidence.
        origin: ``given`` with the picture, ``estimated`` by a pose network, or ``neutral``: no
            pose is known, all is zero.
        half_turn: how much of the network's maps speaks for a vehicle that faces the other way,
            0..1; above 0.02 that is not rare (see VehiclePose's card). None where it is not known.
        contents: float32 ``[4]``, the network's probabilities that the picture shows one vehicle,
            none, several, or one cut off. None where it is not known.
    """

    keypoints: np.ndarray
    origin: PoseOrigin
    half_turn: float | None = None
    contents: np.ndarray | None = None

    @classmethod
    def of(cls, keypoints: np.ndarray | None) -> Pose:
        """A given pose, or the neutral one for None; ValueError if it is no pose."""
        if keypoints is None:
            return cls(pose_or_zeros(None), "neutral")
        return cls(check_keypoints(keypoints), "given")

    def scaled(self, factor: float) -> Pose:
        """The same in a picture of that many times the pixels a side."""
        if factor == 1 or self.origin == "neutral":
            return self
        # A pixel's middle stays its middle.
        places = (self.keypoints[:, :2] + 0.5) * factor - 0.5
        keypoints = np.column_stack([places, self.keypoints[:, 2]]).astype(np.float32)
        return replace(self, keypoints=keypoints)

    @property
    def confidence(self) -> float:
        """The keypoints' mean confidence."""
        return float(self.keypoints[:, 2].mean())

    @property
    def seen(self) -> np.ndarray:
        """Which keypoints have a confidence of at least 0.5: bool ``[36]``."""
        return self.keypoints[:, 2] >= SEEN_FROM

    def as_json(self) -> dict[str, Any]:
        """What is printed and sent of it, as JSON takes it."""
        return {
            "confidence": self.confidence,
            "seen": int(self.seen.sum()),
            "half_turn": self.half_turn,
            "keypoints": self.keypoints.tolist(),
        }


def as_published(keypoints: np.ndarray) -> np.ndarray:
    """A pose of the convention ``visibility`` as PAMTRI's pose network would have had it.

    Hidden keypoints had no weight in that network's training, and come out with a high confidence
    nearer to the side that is seen: each moves towards its counterpart where that one is seen. How
    far was fitted to the one figure that is known of it, so single keypoints may lie otherwise.

    Args:
        keypoints: float32 ``[36, 3]``, confidences of the convention ``visibility``.
    """
    seen = keypoints[:, 2] >= SEEN_FROM
    aside = _ASIDE * (~seen & seen[MIRRORED_KEYPOINTS])[:, None]
    places = (1 - aside) * keypoints[:, :2] + aside * keypoints[MIRRORED_KEYPOINTS, :2]
    confidences = np.where(seen, _PUBLISHED_SEEN, _PUBLISHED_HIDDEN)
    return np.column_stack([places, confidences]).astype(np.float32)
