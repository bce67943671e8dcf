"""From images to colour, type and embedding."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .card import ModelCard
from .engines import Backend
from .engines.opening import open_engine
from .preprocessing import ImageInput, preprocess
from .spec import NetworkSpec

if TYPE_CHECKING:
    from .network import MultiTaskNet

logger = logging.getLogger(__name__)

MISSING_POSE = (
    "no keypoints given: all confidences set to zero, no segments or heatmaps; "
    "expect lower accuracy than with a pose"
)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of one image.

    Attributes:
        source: the image's path, or ``image <index>``.
        color, type: the likeliest class; None if the network has no such head.
        color_probability, type_probability: its softmax probability, 0..1.
        color_probabilities, type_probabilities: all classes, likeliest first.
        embedding: float32 ``[1024]``; compare by squared Euclidean distance.
        pose_given: whether keypoints were given for the image.
    """

    source: str
    color: str | None
    color_probability: float | None
    color_probabilities: dict[str, float]
    type: str | None
    type_probability: float | None
    type_probabilities: dict[str, float]
    embedding: np.ndarray
    pose_given: bool


class Predictor:
    """The network, ready for images.

    Args:
        weights, card, variant, cache_dir, offline, progress: as in
            :func:`multitasknet.create_network`; or ``weights`` is a file that
            :func:`multitasknet.export` wrote, ``.onnx`` or ``.mindir``.
        network: a Cell of :func:`multitasknet.create_network` to use instead of creating one,
            with the weights that it has now: later training does not reach the predictor.
        batch_size: images per call of the network.
        size: height and width of the network's input; default is the network's own.
        backend: ``mindspore``, ``onnx`` (ONNX Runtime, which imports no MindSpore), or ``auto``:
            ONNX Runtime on a CPU where it is installed, unless the network is in memory. The
            weights are brought into an ONNX file in the cache once.

    Attributes:
        engine: what runs the network; ``engine.source`` says where its weights are from.
        spec: the :class:`multitasknet.NetworkSpec` of the network.
        batch_size, size: as given.
    """

    def __init__(
        self,
        weights: str | Path | None = "card",
        *,
        network: MultiTaskNet | None = None,
        card: str | Path | ModelCard | None = None,
        variant: str | None = None,
        cache_dir: str | Path | None = None,
        offline: bool = False,
        progress: bool = True,
        batch_size: int = 8,
        size: tuple[int, int] | None = None,
        backend: Backend = "auto",
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}; expected an integer of at least 1")
        self.engine = open_engine(
            weights,
            backend=backend,
            network=network,
            card=card,
            variant=variant,
            cache_dir=cache_dir,
            offline=offline,
            progress=progress,
        )
        self.batch_size = batch_size
        self.spec: NetworkSpec = self.engine.spec
        self.size = size or self.spec.input_size

    @property
    def uses_pose(self) -> bool:
        """Whether keypoints make a difference to this network."""
        return self.spec.keypoint_aware or self.spec.channels > 3

    def predict(
        self,
        images: Sequence[ImageInput],
        keypoints: Sequence[np.ndarray | None] | None = None,
    ) -> list[Prediction]:
        """Predict colour, type and embedding of vehicle crops.

        Args:
            images: paths, Pillow images or uint8 arrays ``[H, W, 3]`` (RGB), in any mix.
            keypoints: for each image ``[36, 3]`` of x, y (pixels of that image) and confidence, or
                None where there is no pose. Images without one are predicted on a neutral pose,
                which is logged and noted in the result.

        Raises:
            ImageError: an image cannot be read; nothing is predicted then.
            ValueError: keypoints of another number or shape.
        """
        poses = check_poses(images, keypoints)
        predictions: list[Prediction] = []
        for outputs in self._run(images, poses):
            for row in zip(*outputs, strict=True):
                index = len(predictions)
                source = _source(images[index], index)
                predictions.append(self._prediction(source, row, poses[index] is not None))
        return predictions

    def embed(
        self,
        images: Sequence[ImageInput],
        keypoints: Sequence[np.ndarray | None] | None = None,
    ) -> np.ndarray:
        """Return the embeddings alone, float32 ``[N, 1024]``; arguments as in :meth:`predict`."""
        batches = [outputs[-1] for outputs in self._run(images, check_poses(images, keypoints))]
        return np.concatenate(batches) if batches else np.empty((0, 1024), dtype=np.float32)

    def run(self, x: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, ...]:
        """Call the network on one batch of inputs as :func:`multitasknet.preprocess` makes them.

        Args:
            x: float32 ``[N, C, H, W]``.
            p: float32 ``[N, 108]``.

        Returns:
            The outputs that ``spec.outputs`` names, the embedding last.
        """
        return self.engine.run(x, p)

    def warn_of_missing_pose(self, poses: Sequence[np.ndarray | None]) -> None:
        """Log how many poses are missing, if the network would have used them."""
        missing = sum(pose is None for pose in poses)
        if missing and self.uses_pose:
            logger.warning("%d of %d images: %s", missing, len(poses), MISSING_POSE)

    def _run(
        self, images: Sequence[ImageInput], poses: Sequence[np.ndarray | None]
    ) -> Iterator[tuple[np.ndarray, ...]]:
        self.warn_of_missing_pose(poses)
        for x, p in self.prepare(images, poses):
            yield self.run(x, p)

    def prepare(
        self, images: Sequence[ImageInput], poses: Sequence[np.ndarray | None]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The network's inputs, ``[N, C, H, W]`` and ``[N, 108]``, a batch at a time.

        While one batch is used, threads prepare the next.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            pending: deque[list[Future]] = deque()
            for start in range(0, len(images), self.batch_size):
                stop = start + self.batch_size
                pending.append(
                    [
                        pool.submit(preprocess, image, pose, self.spec.variant, self.size)
                        for image, pose in zip(images[start:stop], poses[start:stop], strict=True)
                    ]
                )
                if len(pending) > 1:
                    yield _stacked(pending.popleft())
            while pending:
                yield _stacked(pending.popleft())

    def _prediction(self, source: str, row: tuple[np.ndarray, ...], pose_given: bool) -> Prediction:
        spec = self.spec
        has_attributes = spec.multi_task and spec.include_top
        colors = _ranked(row[1], spec.color_names) if has_attributes else {}
        types = _ranked(row[2], spec.type_names) if has_attributes else {}
        return Prediction(
            source=source,
            color=next(iter(colors), None),
            color_probability=next(iter(colors.values()), None),
            color_probabilities=colors,
            type=next(iter(types), None),
            type_probability=next(iter(types.values()), None),
            type_probabilities=types,
            embedding=row[-1],
            pose_given=pose_given,
        )


def _stacked(prepared: list[Future]) -> tuple[np.ndarray, np.ndarray]:
    x, p = zip(*(future.result() for future in prepared), strict=True)
    return np.stack(x), np.stack(p)


def check_poses(
    images: Sequence[ImageInput], keypoints: Sequence[np.ndarray | None] | None
) -> Sequence[np.ndarray | None]:
    """One pose an image, or None; TypeError or ValueError if the two do not go together."""
    if isinstance(images, str | Path) or not isinstance(images, Sequence):
        raise TypeError(f"images must be a list of images, not {type(images).__name__}")
    if keypoints is None:
        return [None] * len(images)
    if len(keypoints) != len(images):
        raise ValueError(
            f"{len(keypoints)} keypoints for {len(images)} images; expected one entry an image, "
            f"None where there is no pose"
        )
    return keypoints


def _source(image: ImageInput, index: int) -> str:
    return str(image) if isinstance(image, str | Path) else f"image {index}"


def _ranked(logits: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    probabilities = weights / weights.sum()
    order = np.argsort(-probabilities, kind="stable")
    return {names[index]: float(probabilities[index]) for index in order}
