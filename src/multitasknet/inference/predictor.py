"""From images to colour, type and embedding."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.samples import batch_inputs, load_maps, make_sample
from ..hub.card import CARD, ENTRIES, ModelCard
from ..hub.source import WeightsSource
from ..images import ImageInput
from ..models import find_network
from ..models.multitasknet.decoding import Prediction, decode
from ..models.multitasknet.spec import MultiTaskNetSpec
from ..ranking.calibration import Calibration, read_calibration
from ..runtime import usable_cores
from ..vehicle.pose import Pose
from ..vehicle.sample import Sample
from .engine import Backend, Hint, Precision
from .opening import EXPORTED
from .origin import EmbeddingOrigin
from .pose_choice import AUTO, open_pose_estimator
from .pose_estimator import PoseEstimator
from .runner import Runner, Shot, Skip, Source, ahead, check_images

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
        weights, card, variant, cache_dir, offline, progress: as in
            :func:`multitasknet.create_network`; or ``weights`` is a file that
            :func:`multitasknet.export` wrote, ``.onnx`` or ``.mindir``.
        network: a Cell of :func:`multitasknet.create_network` to use instead of creating one,
            with the weights that it has now: later training does not reach the predictor.
        batch_size: images per call of the network; default is 8, or four a thread with the hint
            ``throughput`` if that is more.
        size: height and width of the network's input; default is the network's own.
        backend: ``mindspore``, ``onnx`` (ONNX Runtime) or ``openvino``, which import no
            MindSpore, or ``auto``: on a CPU the faster of these two for the precision that is
            installed, unless the network is in memory. The weights are brought into an ONNX file
            in the cache once, by MindSpore.
        threads: of ONNX Runtime or OpenVINO; default is one for each core that the process may use.
        device: where MindSpore is to compute, all of this process: ``CPU``, ``Ascend``,
            ``Ascend:1``, ``GPU``; default is what it finds.
        fp16: have MindSpore compute in float16, all but batch norms; faster on a device alone.
        precision: ``float32``; ``bfloat16``, a way of running float32 weights with OpenVINO, where
            the processor has it; ``int8``, which needs a file of :func:`multitasknet.quantize`;
            ``auto``, the fastest that leaves embeddings at a mean cosine of 0.999 with those of
            float32, never INT8 unless the file is; default is the file's own. Embeddings of
            different precisions are not compared with one another. The pose network takes it too,
            but for ``int8``.
        hint: what ONNX Runtime and OpenVINO are to be good at: ``latency``, all cores at one batch;
            ``throughput``, its pictures shared out among the cores, for batches of several a core.
        pose: where images without keypoints get them from: ``auto`` (the published pose network
            if it is in the cache, else the light one if it is shipped, else a neutral pose; nothing
            is downloaded), ``none`` (a neutral pose), ``card`` (the published pose network,
            downloaded once), ``synthetic`` (the light one that is shipped), a file of pose weights,
            or a :class:`multitasknet.PoseEstimator`. Unless it is the latter, hidden keypoints are
            placed as these weights were trained on them, where the pose network can.

    Attributes:
        engine: what runs the network; ``engine.source`` says where its weights are from.
        spec: the :class:`multitasknet.MultiTaskNetSpec` of the network.
        batch_size, size: as given.
    """

    spec: MultiTaskNetSpec

    def __init__(
        self,
        weights: str | Path | None = CARD,
        *,
        network: MultiTaskNet | None = None,
        card: str | Path | ModelCard | None = None,
        variant: str | None = None,
        cache_dir: str | Path | None = None,
        offline: bool = False,
        progress: bool = True,
        batch_size: int | None = None,
        size: tuple[int, int] | None = None,
        backend: Backend = "auto",
        threads: int | None = None,
        device: str | None = None,
        fp16: bool = False,
        precision: Precision | None = None,
        hint: Hint = "latency",
        pose: str | Path | PoseEstimator = AUTO,
    ) -> None:
        self._source = WeightsSource(weights, card, cache_dir, offline, progress)
        self._from_file = network is None and weights is not None
        super().__init__(
            NAME,
            self._source,
            network=network,
            batch_size=batch_size,
            size=size,
            backend=backend,
            threads=threads,
            device=device,
            fp16=fp16,
            precision=precision,
            hint=hint,
            variant=variant,
        )
        self._open_pose_estimator = partial(
            open_pose_estimator,
            pose,
            cache_dir=cache_dir,
            offline=offline,
            progress=progress,
            batch_size=batch_size,
            backend=backend,
            threads=threads,
            device=device,
            fp16=fp16,
            # Which of the pose network's weights are INT8, their own file says.
            precision=None if precision == "int8" else precision,
            hint=hint,
        )
        if pose != AUTO:
            self.pose_estimator  # noqa: B018, a mistake in what was asked for shows now

    @cached_property
    def pose_estimator(self) -> PoseEstimator | None:
        """What finds missing keypoints; None if nothing does, or nothing would be better."""
        wanted = self.spec.pose_convention
        # What was published every pose network can give.
        hidden = "published" if wanted == "published" else None
        estimator = self._open_pose_estimator(hidden=hidden) if self.spec.uses_pose else None
        if estimator and estimator.pose_convention != wanted:
            logger.warning(
                "the pose network's confidences are those of the convention %r, but these weights "
                "were trained on %r: expect lower accuracy",
                estimator.pose_convention,
                wanted,
            )
        return estimator

    @cached_property
    def weights_file(self) -> Path | None:
        """The file of the weights; None where they are in memory or random."""
        return self._source.fetch(NAME) if self._from_file else None

    @property
    def weights_are_own(self) -> bool:
        """Whether the weights are a file that was given, not one of a card."""
        return self._from_file and self._source.weights not in ENTRIES

    @cached_property
    def calibration(self) -> Calibration | None:
        """What distances between its embeddings say; None if nothing was measured at this size.

        ``multitasknet calibrate`` writes it, ``export`` and ``quantize`` take it over.
        Raises CheckpointError or DataError if it cannot be read.
        """
        found: Calibration | None = None
        if self._source.suffix in EXPORTED:
            exported: Any = self.engine
            found = exported.metadata.calibration
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

        While one batch is predicted, threads take, read and draw the next ones.

        Args:
            images: paths, Pillow images, uint8 arrays ``[H, W, 3]`` (RGB), :class:`.Picture` or
                :class:`.Record`, in any mix. A record brings its keypoints and stored maps.
            keypoints: for each image ``[36, 3]`` of x, y (pixels of that image) and confidence, or
                None where there is no pose. Images without one get it from the pose estimator; if
                there is none they are predicted on a neutral pose, which is logged. The result
                holds the pose and says which it is.
            skip: is called with the name and the error of each image that cannot be read, in a
                thread, and the image is left out; None raises the error.

        Raises:
            ImageError: an image cannot be read.
            DataError: a record's stored map cannot be read.
            ValueError: keypoints of another shape.
        """
        names = tuple(self.spec.output_shapes(self.size))
        total = neutral = 0
        posed = ahead(self._posed(self.read(images, keypoints, skip=skip, size=self.size)))
        for inputs, shots in ahead(self._drawn(posed)):
            for shot, *row in zip(shots, *self.run(*inputs), strict=True):
                height, width = shot.shape
                neutral += shot.pose.origin == "neutral"
                total += 1
                yield decode(
                    dict(zip(names, row, strict=True)),
                    self.spec,
                    source=shot.picture.name,
                    pose=shot.pose,
                    index=shot.index,
                    sha256=shot.picture.sha256,
                    width=width,
                    height=height,
                )
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
        found = [one.embedding for one in self.stream(images, check_poses(images, keypoints))]
        width = self.spec.output_shapes(self.size)["embedding"]
        return np.stack(found) if found else np.empty((0, *width), dtype=np.float32)

    def _posed(self, batches: Iterator[list[Shot]]) -> Iterator[list[Shot]]:
        """The pictures with estimated poses where they have none."""
        for shots in batches:
            poses = self.estimate_missing(
                [shot.pixels for shot in shots], [shot.reduced_pose for shot in shots]
            )
            yield [
                shot
                if shot.pose.origin == pose.origin
                else replace(shot, pose=pose.scaled(shot.divisor))
                for shot, pose in zip(shots, poses, strict=True)
            ]

    def _drawn(
        self, batches: Iterator[list[Shot]]
    ) -> Iterator[tuple[tuple[np.ndarray, ...], list[Shot]]]:
        """The network's inputs."""
        with ThreadPoolExecutor(usable_cores()) as pool:
            for shots in batches:
                samples = list(pool.map(self._sample_of, shots))
                yield batch_inputs(samples, self.spec, self.size), shots

    def _sample_of(self, shot: Shot) -> Sample:
        pose, record, spec = shot.reduced_pose.keypoints, shot.record, self.spec
        if record is None or not (record.heatmaps or record.segments):
            return make_sample(shot.pixels, pose, spec)
        known = None if shot.pose.origin == "neutral" else shot.pose.keypoints
        record = replace(record, keypoints=known)
        maps = load_maps(record, shot.shape, heatmaps=spec.heatmaps, segments=spec.segments)
        return Sample(shot.pixels, pose, maps)

    def predict_pictures(
        self, batches: Iterator[tuple[list[np.ndarray], list[np.ndarray | None]]]
    ) -> Iterator[list[Prediction]]:
        """Predictions of pictures that come in batches, one list a batch; any number of batches.

        While one batch is predicted, threads take and prepare the next ones.

        Args:
            batches: pictures, uint8 ``[H, W, 3]`` each, and their keypoints, as in
                :meth:`predict`.
        """
        with_poses = ((pixels, [Pose.of(one) for one in given]) for pixels, given in batches)
        return self._predict(self._inputs_ahead(with_poses), repeat("a picture"))

    def _predict(
        self, batches: Iterator[tuple[tuple[np.ndarray, ...], list[Pose]]], sources: Iterator[str]
    ) -> Iterator[list[Prediction]]:
        for inputs, poses in batches:
            yield self._decoded(inputs, poses, list(islice(sources, len(poses))))

    def predict_pixels(
        self, pixels: Sequence[np.ndarray], poses: Sequence[Pose], sources: Sequence[str]
    ) -> list[Prediction]:
        """:meth:`predict` for one batch of pictures in memory, uint8 ``[H, W, 3]`` each.

        In the thread that calls, with these poses and names.
        """
        samples = list(map(self._sample, pixels, poses))
        return self._decoded(batch_inputs(samples, self.spec, self.size), poses, sources)

    def _decoded(
        self, inputs: tuple[np.ndarray, ...], poses: Sequence[Pose], sources: Sequence[str]
    ) -> list[Prediction]:
        names = self.spec.output_shapes(self.size)
        return [
            decode(dict(zip(names, row, strict=True)), self.spec, source=source, pose=pose)
            for source, pose, *row in zip(sources, poses, *self.run(*inputs), strict=True)
        ]

    def prepare(
        self, images: Sequence[ImageInput], keypoints: Sequence[np.ndarray | None] | None = None
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """The network's inputs, as :meth:`run` takes them, a batch at a time.

        While one batch is used, threads prepare the next ones. Arguments as in :meth:`predict`.
        """
        read = self.read(images, check_poses(images, keypoints), size=self.size)
        for inputs, _ in ahead(self._drawn(ahead(self._posed(read)))):
            yield inputs

    def warn_of_missing_pose(self, keypoints: Sequence[np.ndarray | None]) -> None:
        """Log how many poses will be neutral, if the network would have used them."""
        missing = sum(one is None for one in keypoints)
        if missing and self.spec.uses_pose and self.pose_estimator is None:
            logger.warning("%d of %d images: %s", missing, len(keypoints), MISSING_POSE)

    def _inputs_ahead(
        self, batches: Iterator[tuple[Sequence[np.ndarray], list[Pose]]]
    ) -> Iterator[tuple[tuple[np.ndarray, ...], list[Pose]]]:
        with_poses = ((pixels, self.estimate_missing(pixels, poses)) for pixels, poses in batches)
        return ahead(self._assemble(ahead(with_poses)))

    def estimate_missing(self, pixels: Sequence[np.ndarray], poses: list[Pose]) -> list[Pose]:
        """The poses of one batch of pictures in memory, estimated where they are neutral."""
        missing = [row for row, pose in enumerate(poses) if pose.origin == "neutral"]
        if self.pose_estimator is None or not missing:
            return poses
        found = self.pose_estimator.estimate_pixels([pixels[row] for row in missing])
        by_row = dict(zip(missing, found, strict=True))
        return [by_row.get(row, pose) for row, pose in enumerate(poses)]

    def _assemble(
        self, batches: Iterator[tuple[Sequence[np.ndarray], list[Pose]]]
    ) -> Iterator[tuple[tuple[np.ndarray, ...], list[Pose]]]:
        with ThreadPoolExecutor(usable_cores()) as pool:
            for pixels, poses in batches:
                samples = list(pool.map(self._sample, pixels, poses))
                yield batch_inputs(samples, self.spec, self.size), poses

    def _sample(self, pixels: np.ndarray, pose: Pose) -> Sample:
        return make_sample(pixels, pose.keypoints, self.spec)


def check_poses(
    images: Sequence[Source], keypoints: Sequence[np.ndarray | None] | None
) -> Sequence[np.ndarray | None]:
    """One pose an image, or None; TypeError or ValueError if the two do not go together."""
    check_images(images)
    if keypoints is None:
        return [None] * len(images)
    if len(keypoints) != len(images):
        raise ValueError(
            f"{len(keypoints)} keypoints for {len(images)} images; expected one entry an image, "
            f"None where there is no pose"
        )
    return keypoints
