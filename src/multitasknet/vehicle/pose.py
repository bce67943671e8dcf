"""A vehicle's pose in one picture, and where it is from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

import numpy as np

from .keypoints import SEEN_FROM, check_keypoints, pose_or_zeros

PoseOrigin: TypeAlias = Literal["given", "estimated", "neutral"]
# What a keypoint's confidence means. "published": the height of PoseEstNet's map, for hidden
# keypoints too, which it finds as well as it can. "visibility": 1 where a keypoint is seen, less
# than 0.5 where something hides it.
PoseConvention: TypeAlias = Literal["published", "visibility"]
POSE_CONVENTIONS: tuple[str, ...] = get_args(PoseConvention)


def check_convention(name: str) -> PoseConvention:
    """The convention of that name; ValueError that lists them."""
    if name not in POSE_CONVENTIONS:
        raise ValueError(
            f"pose_convention is {name!r}; expected one of {', '.join(POSE_CONVENTIONS)}"
        )
    return cast("PoseConvention", name)


@dataclass(frozen=True, eq=False)
class Pose:
    """36 keypoints.

    Attributes:
        keypoints: float32 ``[36, 3]`` of x, y (pixels of the picture) and confidence.
        origin: ``given`` with the picture, ``estimated`` by a pose network, or ``neutral``: no
            pose is known, all is zero.
        heatmaps: the pose network's maps, float32 ``[36, h, w]``, where they were asked for.
    """

    keypoints: np.ndarray
    origin: PoseOrigin
    heatmaps: np.ndarray | None = None

    @classmethod
    def of(cls, keypoints: np.ndarray | None) -> Pose:
        """A given pose, or the neutral one for None; ValueError if it is no pose."""
        if keypoints is None:
            return cls(pose_or_zeros(None), "neutral")
        return cls(check_keypoints(keypoints), "given")

    @property
    def confidence(self) -> float:
        """The keypoints' mean confidence."""
        return float(self.keypoints[:, 2].mean())

    @property
    def seen(self) -> np.ndarray:
        """Which keypoints have a confidence of at least 0.5: bool ``[36]``."""
        return self.keypoints[:, 2] >= SEEN_FROM
