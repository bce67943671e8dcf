"""From images to colour, type and embedding."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.samples import batch_inputs, load_maps, make_sample
from ..hub.card import ModelCard
from ..hub.source import DEFAULT
from ..models import find_network
from ..models.multitasknet.decoding import Prediction, decode
from ..ranking.calibration import Calibration, read_calibration
from ..runtime import usable_cores
from ..vehicle.sample import Sample
from .engines import Aim, Backend, OnnxEngine, Precision
from .origin import EmbeddingOrigin
from .pose import AUTO, PoseEstimator, open_pose_estimator
from .runner import PosedImage, Runner, Skip, Source, ahead, check_poses

if TYPE_CHECKING:
    from ..models.multitasknet.network import MultiTaskNet

logger = logging.getLogger(__name__)

NAME = "multitasknet"
MISSING_POSE = (
    "no keypoints given: all confidences set to zero, no segments or heatmaps; "
    "expect lower accuracy than with a pose"
)


class Predictor(Runner):
    """The network, ready for images; any number of threads may share it.

    Args:
        weights: ``default`` (the environment variable ``MULTITASKNET_WEIGHTS`` if it is set, else
            the shipped weights), ``synthetic`` (the shipped ones), ``card`` (the published ones,
            downloaded once), a file of weights, an ``.onnx`` file of :func:`multitasknet.export`,
            or None for random values.
        network: a Cell of :func:`multitasknet.create_network` to use instead, with the weights
            that it has now: later training does not reach the predictor.
        card, variant, cache_dir, offline, progress: as in :func:`multitasknet.create_network`.
        batch_size: images per call of the network; default is 8, or four a thread with
            ``optimize_for="throughput"`` if that is more.
        size: the input's side in pixels, or its height and width; default is the network's own.
        backend: ``onnx`` (ONNX Runtime), ``openvino``, ``mindspore``, or ``auto``: on a CPU ONNX
            Runtime, unless the network is in memory or the precision is bfloat16. The first two
            import no MindSpore; the weights are converted to an ONNX file in the cache once.
        threads: of ONNX Runtime or OpenVINO; default is one for each core that the process may use.
        device: where MindSpore computes, in all of this process: ``CPU``, ``Ascend``,
            ``Ascend:1``, ``GPU``; default is what it finds.
        precision: ``float32``; ``bfloat16``, a way of running float32 weights with OpenVINO, where
            the processor has it; ``int8``, which needs a file of :func:`multitasknet.quantize`;
            default is the file's own. Embeddings of different precisions are not compared with one
            another. The pose network takes it too, except for ``int8``.
        optimize_for: ``latency``: all cores work at one batch; ``throughput``: its pictures are
            shared out among the cores, for batches of several a core.
        pose: where images without keypoints get them from: ``auto`` (for weights that were trained
            on the published pose network, that one if it is in the cache; else the shipped one;
            nothing is downloaded), ``none`` (a neutral pose), ``card`` (the published pose network,
            downloaded once), ``synthetic`` (the shipped one), a file of pose weights, or a
            :class:`multitasknet.PoseEstimator`. Unless it is the latter, hidden keypoints are
            placed as these weights were trained on them, where the pose network can.

    Attributes:
        engine, spec, batch_size, size, weights_file: see :class:`.runner.Runner`.

    Raises:
        EngineError: a backend, precision, device, file or pose that cannot be used.
        CardError, CheckpointError, DownloadError: as :func:`multitasknet.create_network`.
    """

    def __init__(
        self,
        weights: str | Path | None = DEFAULT,
        *,
        network: MultiTaskNet | None = None,
        card: str | Path | ModelCard | None = None,
        variant: str | None = None,
        cache_dir: str | Path | None = None,
        offline: bool = False,
        progress: bool = True,
        batch_size: int | None = None,
        size: int | tuple[int, int] | None = None,
        backend: Backend = "auto",
        threads: int | None = None,
        device: str | None = None,
        precision: Precision | None = None,
        optimize_for: Aim = "latency",
        pose: str | Path | PoseEstimator = AUTO,
    ) -> None:
        shared: dict[str, Any] = {
            "cache_dir": cache_dir,
            "offline": offline,
            "progress": progress,
            "batch_size": batch_size,
            "backend": backend,
            "threads": threads,
            "device": device,
            "optimize_for": optimize_for,
        }
        super().__init__(
            (NAME,),
            weights=weights,
            network=network,
            card=card,
            variant=variant,
            size=size,
            precision=precision,
            **shared,
        )
        # Whether the pose network's weights are INT8, their own file states.
        shared["precision"] = None if precision == "int8" else precision
        self._open_pose_estimator = partial(open_pose_estimator, pose, **shared)
        self._opening = Lock()
        if pose != AUTO:
            self.pose_estimator  # noqa: B018, so that a mistake in it is an error now

    @property
    def pose_estimator(self) -> PoseEstimator | None:
        """What finds missing keypoints; None if nothing does, or the network does not use them."""
        with self._opening:
            return self._pose_estimator

    @cached_property
    def _pose_estimator(self) -> PoseEstimator | None:
        if not self.spec.uses_pose:
            return None
        wanted = self.spec.pose_convention
        estimator = self._open_pose_estimator(convention=wanted)
        if estimator and estimator.pose_convention != wanted:
            logger.warning(
                "the pose network's confidences follow the convention %r, but these weights were "
                "trained on %r: expect lower accuracy",
                estimator.pose_convention,
                wanted,
            )
        return estimator

    @cached_property
    def calibration(self) -> Calibration | None:
        """What distances between its embeddings mean; None if nothing was measured at this size.

        ``multitasknet calibrate --save`` writes it; ``export`` and ``quantize`` keep it. Raises
        CheckpointError or DataError if it cannot be read.
        """
        found: Calibration | None = None
        if self.weights_file is not None and self.weights_file.suffix == ".onnx":
            assert isinstance(self.engine, OnnxEngine)
            found = self.engine.metadata.calibration
        elif self.weights_file is not None:
            found = read_calibration(self.weights_file, self.spec)
        return found if found and found.input_size == self.size else None

    @cached_property
    def origin(self) -> EmbeddingOrigin:
        """What makes its embeddings; only those of one origin can be compared."""
        return EmbeddingOrigin(
            weights_sha256=self.engine.weights_sha256,
            variant=str(self.spec.variant),
            input_size=self.size,
            precision=self.engine.precision,
            preprocessing=find_network(self.spec.network).preprocessing_version,
        )

    def stream(
        self,
        images: Iterable[Source],
        keypoints: Iterable[np.ndarray | None] | None = None,
        *,
        skip: Skip | None = None,
    ) -> Iterator[Prediction]:
        """Predict colour, type and embedding of vehicle crops, of any number of them.

        While one batch is predicted, threads read, pose and draw the next ones.

        Args:
            images: paths, Pillow images, uint8 arrays ``[H, W, 3]`` (RGB), :class:`.Picture` or
                :class:`.Record`, in any mix. A record brings its keypoints and stored maps.
            keypoints: for each image ``[36, 3]`` of x, y (pixels of that image) and confidence, or
                None where there is no pose. Images without one get it from the pose estimator; if
                there is none they are predicted on a neutral pose, which is logged. The result
                holds the pose and where it is from.
            skip: is called with the name and the error of each image that cannot be read, in a
                thread, and the image is left out; None raises the error.

        Raises:
            ImageError: an image cannot be read.
            DataError: a record's stored map cannot be read.
            ValueError: keypoints of another shape.
        """
        names = tuple(self.spec.output_shapes(self.size))
        total = neutral = 0
        with ThreadPoolExecutor(usable_cores()) as pool:
            posed = ahead(self._posed(self.read(pool, images, keypoints, skip)))
            with closing(ahead(self._drawn(pool, posed))) as batches:
                for inputs, shots in batches:
                    for shot, *row in zip(shots, *self.run(*inputs), strict=True):
                        total += 1
                        neutral += shot.pose.origin == "neutral"
                        yield self._prediction(shot, dict(zip(names, row, strict=True)))
        if neutral and self.spec.uses_pose:
            logger.warning("%d of %d images: %s", neutral, total, MISSING_POSE)

    def predict(
        self, images: Sequence[Source], keypoints: Sequence[np.ndarray | None] | None = None
    ) -> list[Prediction]:
        """All of :meth:`stream` as a list.

        Raises:
            ImageError: an image cannot be read.
            ValueError: keypoints of another number or shape.
        """
        return list(self.stream(images, check_poses(images, keypoints)))

    def embed(
        self, images: Sequence[Source], keypoints: Sequence[np.ndarray | None] | None = None
    ) -> np.ndarray:
        """The embeddings alone, float32 ``[N, 1024]``; arguments as in :meth:`predict`."""
        found = [one.embedding for one in self.predict(images, keypoints)]
        width = self.spec.output_shapes(self.size)["embedding"]
        return np.stack(found) if found else np.empty((0, *width), dtype=np.float32)

    def inputs(
        self, images: Sequence[Source], keypoints: Sequence[np.ndarray | None] | None = None
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """The network's inputs, as :meth:`run` takes them, a batch at a time."""
        with ThreadPoolExecutor(usable_cores()) as pool:
            read = self.read(pool, images, check_poses(images, keypoints))
            for inputs, _ in self._drawn(pool, self._posed(read)):
                yield inputs

    def _posed(self, batches: Iterator[list[PosedImage]]) -> Iterator[list[PosedImage]]:
        """The pictures with estimated poses where they have none."""
        for shots in batches:
            missing = [shot.pixels for shot in shots if shot.pose.origin == "neutral"]
            if not missing or self.pose_estimator is None:
                yield shots
                continue
            found = iter(self.pose_estimator.estimate_pixels(missing))
            yield [
                shot.with_pose(next(found)) if shot.pose.origin == "neutral" else shot
                for shot in shots
            ]

    def _drawn(
        self, pool: Executor, batches: Iterator[list[PosedImage]]
    ) -> Iterator[tuple[tuple[np.ndarray, ...], list[PosedImage]]]:
        """The network's inputs."""
        for shots in batches:
            samples = list(pool.map(self._sample, shots))
            yield batch_inputs(samples, self.spec, self.size), shots

    def _sample(self, shot: PosedImage) -> Sample:
        keypoints, record, spec = shot.reduced.keypoints, shot.record, self.spec
        if record is None or not (record.heatmaps or record.segments):
            return make_sample(shot.pixels, keypoints, spec)
        known = None if shot.pose.origin == "neutral" else shot.pose.keypoints
        record = replace(record, keypoints=known)
        maps = load_maps(record, shot.shape, heatmaps=spec.heatmaps, segments=spec.segments)
        return Sample(shot.pixels, keypoints, maps)

    def _prediction(self, shot: PosedImage, outputs: dict[str, np.ndarray]) -> Prediction:
        height, width = shot.shape
        return decode(
            outputs,
            self.spec,
            source=shot.picture.name,
            pose=shot.pose,
            index=shot.index,
            sha256=shot.picture.sha256,
            width=width,
            height=height,
        )
