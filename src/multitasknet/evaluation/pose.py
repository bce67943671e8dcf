"""Evaluation of keypoints: estimates beside what the labels of a data set state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from ..data.records import Record, VehicleDataset, check_files
from ..errors import DataError
from ..vehicle.attributes import TYPES, class_name
from ..vehicle.keypoint_metrics import (
    GROUPS,
    OCTANTS,
    UNCLEAR,
    CalibrationBin,
    KeypointErrors,
    calibration_error,
    octants,
    published_metrics,
    published_thresholds,
    swap_shares,
)
from ..vehicle.keypoints import NUM_KEYPOINTS
from .results import run_settings, write_metrics

if TYPE_CHECKING:
    from ..inference.pose import PoseEstimator

AS_PUBLISHED = "as published; not a PCK"
# Of the longer side: how near an estimate must be for its confidence to have been right.
CALIBRATED_AT = 0.1


@dataclass(frozen=True)
class PartScore:
    """A part of the data: how many images, and its visible and its hidden keypoints."""

    images: int
    visible: dict[str, float]  # ``keypoints``, their number, and :meth:`.KeypointErrors.score`
    hidden: dict[str, float]


@dataclass(frozen=True, eq=False)
class PoseEvaluation:
    """Estimated keypoints beside the true ones of N images, and what that comes to."""

    records: tuple[Record, ...]
    estimates: np.ndarray  # float32 ``[N, 36, 3]`` of x, y (pixels of the image) and confidence
    truth: np.ndarray  # the same; a true keypoint is visible from a confidence of 0.5 on
    sides: np.ndarray  # the images' longer sides in pixels, ``[N]``: the unit of all distances
    unlabelled: int  # images without keypoints, which are left out
    settings: dict[str, Any]  # weights, data and versions that the metrics belong to

    @cached_property
    def errors(self) -> KeypointErrors:
        """How far each keypoint is from its true place."""
        return KeypointErrors.of(self.estimates, self.truth, self.sides)

    @property
    def metrics(self) -> dict[str, float]:
        """Name to value in percent; NaN where there is no such keypoint.

        PCK at three shares of the longer side, the mean distance (NME), swaps and the expected
        calibration error (ECE) of the visible keypoints; PCK and NME of the hidden ones.
        """
        hidden = self.errors.score(self.errors.hidden)
        return {
            **self.errors.score(),
            **{f"hidden {name}": value for name, value in hidden.items()},
            **{f"{name} swaps": 100 * share for name, share in self.swaps.items()},
            "ECE": 100 * calibration_error(self.calibration["visible"]),
        }

    @property
    def published(self) -> dict[str, float]:
        """PAMTRI's own figures in percent, see ``keypoint_metrics``: as published; not a PCK."""
        return published_metrics(self.estimates, self.truth)

    @property
    def swaps(self) -> dict[str, float]:
        """See :func:`.keypoint_metrics.swap_shares`."""
        return swap_shares(self.estimates, self.truth, self.sides)

    @property
    def kinds(self) -> dict[str, np.ndarray]:
        """Which keypoints are visible and which hidden, bool ``[N, 36]``."""
        return {"visible": self.errors.visible, "hidden": self.errors.hidden}

    @property
    def calibration(self) -> dict[str, list[CalibrationBin]]:
        """The reliability curves of visible and hidden keypoints, for PCK@0.1."""
        return {
            name: self.errors.calibration(CALIBRATED_AT, one) for name, one in self.kinds.items()
        }

    @cached_property
    def overall(self) -> PartScore:
        """Of all images and keypoints."""
        return self._score(np.arange(len(self.records)))

    @cached_property
    def parts(self) -> dict[str, dict[str, PartScore]]:
        """Of each keypoint group (left and right together), vehicle type and yaw octant.

        The octant is from where the vehicle is seen, by its true keypoints. Types and octants
        without images are left out.
        """
        everywhere = np.arange(len(self.records))
        ids = [-1 if record.type_id is None else record.type_id for record in self.records]
        types = {raw: class_name(raw, TYPES, "type") for raw in sorted({*ids} - {-1})}
        seen_from = dict(enumerate(OCTANTS)) | {UNCLEAR: "unclear"}
        return {
            "group": {name: self._score(everywhere, group) for name, group in GROUPS.items()},
            "type": self._by_name(types | {-1: "unknown"}, np.array(ids)),
            "octant": self._by_name(seen_from, octants(self.truth)),
        }

    def as_json(self) -> dict[str, Any]:
        """All of that as plain values."""
        return {
            "metrics": self.metrics,
            "published": {
                "note": AS_PUBLISHED,
                "thresholds_in_pixels": published_thresholds(len(self.records)),
                "metrics": self.published,
            },
            "images": len(self.records),
            "images_without_keypoints": self.unlabelled,
            "keypoints": {
                kind: getattr(self.overall, kind)["keypoints"] for kind in ("visible", "hidden")
            },
            **{
                f"by_{kind}": {name: asdict(part) for name, part in parts.items()}
                for kind, parts in self.parts.items()
            },
            "calibration": {
                name: {
                    "ECE": 100 * calibration_error(bins),
                    "right_at": CALIBRATED_AT,
                    "bins": [asdict(one) for one in bins],
                }
                for name, bins in self.calibration.items()
            },
            "settings": self.settings,
        }

    def _by_name(self, names: Mapping[int, str], kinds: np.ndarray) -> dict[str, PartScore]:
        """Of the images of each kind ``[N]``, in the order of ``names``; those without left out."""
        places = {name: np.flatnonzero(kinds == kind) for kind, name in names.items()}
        return {name: self._score(chosen) for name, chosen in places.items() if len(chosen)}

    def _score(self, images: np.ndarray, group: Sequence[int] = range(NUM_KEYPOINTS)) -> PartScore:
        chosen = np.zeros_like(self.errors.visible)
        chosen[images[:, None], list(group)] = True
        kinds = self.errors.visible & chosen, self.errors.hidden & chosen
        return PartScore(
            len(images), *({"keypoints": int(one.sum()), **self.errors.score(one)} for one in kinds)
        )


def evaluate_pose(
    estimator: PoseEstimator,
    dataset: VehicleDataset,
    *,
    splits: Sequence[str] | None = None,
    output: str | Path | None = None,
    progress: bool = True,
) -> PoseEvaluation:
    """Estimate the keypoints of all images that have labelled ones, and compare.

    Args:
        splits: which; default is all but ``train``, or ``train`` if it is alone.
        output: a folder for ``metrics.json``.

    Raises:
        DataError: no image has keypoints, or an image is missing.
        ImageError: an image cannot be read.
        OutputError: the results cannot be written.
    """
    there = [split.name for split in dataset.splits]
    names = splits or [name for name in there if name != "train"] or there
    records = [one for split in dataset.splits if split.name in names for one in split.records]
    # All zero is the neutral pose: none is known.
    labelled = [one for one in records if one.keypoints is not None and one.keypoints.any()]
    if not labelled:
        raise DataError(
            f"{dataset.root}: none of the {len(records)} images ({', '.join(names) or 'no split'}) "
            f"has keypoints; expected the PAMTRI layout or NVlabs' annotations, whose label files "
            f"state 36 an image"
        )
    check_files(labelled)
    estimates = np.empty((len(labelled), NUM_KEYPOINTS, 3), dtype=np.float32)
    sides = np.empty(len(labelled))
    shots, hidden = estimator.stream(labelled), None if progress else True
    for shot in tqdm(shots, desc="pose", total=len(labelled), unit="image", disable=hidden):
        estimates[shot.index], sides[shot.index] = shot.pose.keypoints, max(shot.shape)
    settings = {
        "data": str(dataset.root),
        "splits": list(names),
        "flip_test": estimator.flip_test,
        "unit": "longer side of the picture",
        **run_settings(estimator),
    }
    truth = np.array([record.marked for record in labelled])
    unlabelled = len(records) - len(labelled)
    evaluation = PoseEvaluation(tuple(labelled), estimates, truth, sides, unlabelled, settings)
    if output is not None:
        write_metrics(evaluation.as_json(), output)
    return evaluation
