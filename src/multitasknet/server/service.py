"""What the server can do, apart from HTTP: the networks, each behind a batcher, and the gallery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..inference.predictor import Prediction, Predictor
from ..retrieval.comparing import compared, same_vehicle
from ..vehicle.keypoints import visible_surfaces
from ..vehicle.pose import Pose
from .batching import Batcher
from .requests import Picture

if TYPE_CHECKING:
    from ..inference.runner import Runner
    from ..retrieval.gallery import Gallery, GalleryRow, Hit

Arrays = tuple[np.ndarray, ...]
OnBatch = Callable[[str], Callable[[int], object]]


@dataclass(frozen=True, eq=False)
class Said:
    """What the network says of a picture, and the seconds that its batch took."""

    prediction: Prediction
    size: tuple[int, int]
    pose_seconds: float
    network_seconds: float

    def as_json(self) -> dict[str, Any]:
        """As the command's JSON, with the pose's surfaces, the picture's size, and the times."""
        said = self.prediction.as_json()
        said["pose"]["surfaces"] = visible_surfaces(self.prediction.pose.keypoints)
        height, width = self.size
        seconds = {"pose": self.pose_seconds, "network": self.network_seconds}
        return said | {"width": width, "height": height, "seconds": seconds}


class Service:
    """Predictions, poses, searches and plain network runs, for any number of callers.

    Args:
        predictor: the network, with its pose estimator.
        gallery: what to search in; None for no search.
        on_batch: for each batcher's name, what is told the sizes of its batches.
    """

    def __init__(self, predictor: Predictor, gallery: Gallery | None, *, on_batch: OnBatch) -> None:
        self.predictor = predictor
        self.gallery = gallery
        # Read now, so that a damaged one is no caller's trouble.
        self.calibration = predictor.calibration
        self.runners: dict[str, Runner] = {predictor.spec.network: predictor}
        if predictor.pose_estimator is not None:
            self.runners[predictor.pose_estimator.spec.network] = predictor.pose_estimator
        most = predictor.batch_size
        self._predictions: Batcher[Picture, Said] = Batcher(
            self._predict, most=most, on_batch=on_batch("predict")
        )
        self._poses: Batcher[Picture, Pose] = Batcher(
            self._estimate, most=most, on_batch=on_batch("pose")
        )
        self._rows: dict[str, Batcher[Arrays, Arrays]] = {
            name: Batcher(_Rows(runner), most=runner.batch_size, on_batch=on_batch(name))
            for name, runner in self.runners.items()
        }

    def close(self) -> None:
        """Finish what was asked for."""
        self._predictions.close()
        self._poses.close()
        for batcher in self._rows.values():
            batcher.close()

    async def predict(self, pictures: Sequence[Picture]) -> list[Said]:
        """What the network says of each."""
        return await _all([self._predictions.submit(one) for one in pictures])

    async def estimate(self, pictures: Sequence[Picture]) -> list[Pose]:
        """Their poses, those that were given as they are."""
        return await _all([self._poses.submit(one) for one in pictures])

    async def run(self, name: str, inputs: Arrays) -> Arrays:
        """One network's outputs for its inputs, each ``[N, ...]``, all of as many rows."""
        rows = await _all([self._rows[name].submit(row) for row in zip(*inputs, strict=True)])
        return tuple(np.stack(column) for column in zip(*rows, strict=True))

    def compare(self, first: Said, second: Said) -> dict[str, Any]:
        """As :meth:`multitasknet.Comparison.as_json`."""
        result = compared(self.predictor, first.prediction, second.prediction).as_json()
        return result | {"first": first.as_json(), "second": second.as_json()}

    def match(self, hit: Hit) -> dict[str, Any]:
        """A crop that was found."""
        probability = same_vehicle(self.predictor, hit.distance)
        found = {"distance": hit.distance, "probability": probability}
        return row_as_json(hit.row) | found

    def _predict(self, pictures: Sequence[Picture]) -> list[Said]:
        start = time.perf_counter()
        pixels = [one.pixels for one in pictures]
        said = self.predictor.predict(pixels, [_keypoints(one.pose) for one in pictures])
        seconds = time.perf_counter() - start
        named = [
            replace(one, source=picture.name) for one, picture in zip(said, pictures, strict=True)
        ]
        return [Said(one, (one.height, one.width), 0.0, seconds) for one in named]

    def _estimate(self, pictures: Sequence[Picture]) -> list[Pose]:
        estimator = self.predictor.pose_estimator
        poses = [one.pose for one in pictures]
        if estimator is None:
            return poses
        return [
            pose if pose.origin != "neutral" else estimator.estimate([one.pixels])[0]
            for pose, one in zip(poses, pictures, strict=True)
        ]


def _keypoints(pose: Pose) -> np.ndarray | None:
    return None if pose.origin == "neutral" else pose.keypoints


class _Rows:
    """Runs single rows of inputs, those of one shape together."""

    def __init__(self, runner: Runner) -> None:
        self._run = runner.run

    def __call__(self, rows: Sequence[Arrays]) -> list[Arrays]:
        results: dict[int, Arrays] = {}
        shapes = [tuple(one.shape for one in row) for row in rows]
        for shape in dict.fromkeys(shapes):
            places = [place for place, one in enumerate(shapes) if one == shape]
            inputs = map(np.stack, zip(*(rows[place] for place in places), strict=True))
            results |= zip(places, zip(*self._run(*inputs), strict=True), strict=True)
        return [results[place] for place in range(len(rows))]


def row_as_json(row: GalleryRow) -> dict[str, Any]:
    """A crop of the gallery, without the place of its file."""
    return {
        "id": row.id,
        "camera": row.camera,
        "time": None if row.time is None else row.time.isoformat(),
        "color": row.color,
        "type": row.type,
    }


async def _all(futures: Sequence[Future[Any]]) -> list[Any]:
    """All results; the first failure, when all have ended."""
    done = await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
    for one in done:
        if isinstance(one, BaseException):
            raise one
    return done
