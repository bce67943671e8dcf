"""From images to colour, type and embedding."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ..hub.source import DEFAULT
from ..models import EMBEDDING_NETWORKS, find_network
from ..ranking.calibration import Calibration, read_calibration
from .engines import OnnxEngine
from .pose import AUTO, PoseEstimator, open_pose_estimator
from .prediction import EmbeddingOrigin, Prediction, likeliest
from .runner import PosedImage, Runner, RunnerOptions, Skip, Source

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)


class Predictor(Runner):
    """An embedding network, ready for images; any number of threads may share it.

    Which one it is, MultiTaskNet or VehicleReID, follows from the weights; random ones and the
    default card are MultiTaskNet's.

    Args:
        weights: ``default`` (the environment variable ``MULTITASKNET_WEIGHTS`` if it is set, else
            the shipped weights), ``synthetic`` (the shipped ones), a network's name (its shipped
            ones), ``card`` (the published ones, downloaded once), a card (``.md``), a file of
            weights, an ``.onnx`` file of :func:`multitasknet.export`, or None for random values.
        network: a Cell of :func:`multitasknet.create_network` to use instead, with the weights
            that it has now: later training does not reach the predictor.
        card, cache_dir, offline, progress: as in :func:`multitasknet.create_network`.
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
    """

    def __init__(
        self,
        weights: str | Path | None = DEFAULT,
        *,
        pose: str | Path | PoseEstimator = AUTO,
        **options: Unpack[RunnerOptions],
    ) -> None:
        super().__init__(EMBEDDING_NETWORKS, weights, **options)
        shared: dict[str, Any] = dict(options)
        for name in ("network", "card", "size"):
            shared.pop(name, None)
        if shared.get("precision") == "int8":  # whether the pose network's are, their file states
            del shared["precision"]
        self._estimator: PoseEstimator | None = None
        convention = self.spec.pose_convention
        self._open: Any = partial(open_pose_estimator, pose, convention=convention, **shared)
        self._opening = Lock()
        if pose != AUTO:
            self.pose_estimator  # noqa: B018, so that a mistake in it is an error now

    @property
    def pose_estimator(self) -> PoseEstimator | None:
        """What finds missing keypoints; None if nothing does, or the network does not use them."""
        with self._opening:
            if self._open and self.spec.uses_pose:
                self._estimator, self._open = self._open(), None
            return self._estimator

    @property
    def pose_setting(self) -> str:
        """Where images without keypoints get them from, in words."""
        if not self.spec.uses_pose:
            return "not used"
        estimator = self.pose_estimator
        return f"by {estimator.engine.weights_sha256[:12]}" if estimator else "none"

    @cached_property
    def calibration(self) -> Calibration | None:
        """How likely hits show the query's vehicle; None if that was not measured, or otherwise.

        It holds for the weights, the input size and the poses that it was measured with, else a
        warning says so.
        ``multitasknet calibrate`` writes it; ``export`` and ``quantize`` keep it. Raises
        CheckpointError or DataError if it cannot be read.
        """
        path, found = self.weights_file, None
        if path and path.suffix == ".onnx" and isinstance(self.engine, OnnxEngine):
            found = self.engine.metadata.calibration
        elif path:
            found = read_calibration(path, self.spec)
            if found and found.weights != self.engine.weights_sha256:
                logger.warning(
                    "%s: no probabilities, as its calibration is of the weights %s; 'multitasknet "
                    "calibrate' measures it again",
                    *(path, found.weights[:12]),
                )
                return None
        if found and (found.input_size, found.pose) != (self.size, self.pose_setting):
            logger.warning(
                "%s: no probabilities, as its calibration is of %d x %d and poses %s, and this is "
                "%d x %d and poses %s; 'multitasknet calibrate' measures it again",
                *(path, *found.input_size, found.pose, *self.size, self.pose_setting),
            )
            return None
        return found

    @cached_property
    def origin(self) -> EmbeddingOrigin:
        """What makes its embeddings; only those of one origin can be compared."""
        return EmbeddingOrigin(
            weights_sha256=self.engine.weights_sha256,
            variant=str(self.spec.variant),
            input_size=self.size,
            precision=self.engine.precision,
            preprocessing=find_network(self.spec.network).preprocessing_version,
            distance=self.spec.distance,
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
            ImageError, DataError: an image, or a record's stored map, cannot be read.
            ValueError: keypoints of another shape.
        """
        spec, total, neutral = self.spec, 0, 0
        kinds = (("color_logits", spec.color_names), ("type_logits", spec.type_names))
        for inputs, shots in self.batches(images, keypoints, skip):
            outputs = self.engine.run(*inputs)
            found = dict(zip(self.engine.output_names, outputs, strict=True))
            for row, shot in enumerate(shots):
                total += 1
                neutral += shot.pose.origin == "neutral"
                colors, types = (
                    likeliest(found[logits][row], names) if logits in found else {}
                    for logits, names in kinds
                )
                height, width = shot.shape
                quality, reason = shot.quality
                yield Prediction(
                    source=shot.picture.name,
                    color_probabilities=colors,
                    type_probabilities=types,
                    embedding=found["embedding"][row],
                    pose=shot.pose,
                    index=shot.index,
                    sha256=shot.picture.sha256,
                    width=width,
                    height=height,
                    quality=quality,
                    reason=reason,
                )
        if neutral and spec.uses_pose:
            logger.warning(
                "%d of %d images: no keypoints given: all confidences set to zero, no segments or "
                "heatmaps; expect lower accuracy than with a pose",
                *(neutral, total),
            )

    def predict(
        self, images: Sequence[Source], keypoints: Sequence[np.ndarray | None] | None = None
    ) -> list[Prediction]:
        """All of :meth:`stream` as a list."""
        return list(self.stream(images, keypoints))

    def embed(
        self, images: Sequence[Source], keypoints: Sequence[np.ndarray | None] | None = None
    ) -> np.ndarray:
        """The embeddings alone, float32 ``[N, D]``; arguments as in :meth:`predict`."""
        found = [one.embedding for one in self.predict(images, keypoints)]
        width = self.spec.output_shapes(self.size)["embedding"]
        return np.stack(found) if found else np.empty((0, *width), dtype=np.float32)

    def _posed(self, shots: list[PosedImage]) -> list[PosedImage]:
        missing = [shot.pixels for shot in shots if shot.pose.origin == "neutral"]
        if not (missing and self.pose_estimator):
            return shots
        found = iter(self.pose_estimator.estimate_pixels(missing))
        return [
            shot.with_pose(next(found)) if shot.pose.origin == "neutral" else shot for shot in shots
        ]
