"""From images to colour, type and embedding."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.samples import batch_inputs, make_sample
from ..hub.card import ModelCard
from ..hub.source import CARD, WeightsSource
from ..images import ImageInput, read_image
from ..models.definition import check_size
from ..models.multitasknet.decoding import Prediction, decode
from ..models.multitasknet.spec import NetworkSpec
from ..runtime import usable_cores
from ..vehicle.sample import Sample
from .engine import Backend
from .opening import open_engine

if TYPE_CHECKING:
    from ..models.multitasknet.network import MultiTaskNet

logger = logging.getLogger(__name__)

MISSING_POSE = (
    "no keypoints given: all confidences set to zero, no segments or heatmaps; "
    "expect lower accuracy than with a pose"
)


class Predictor:
    """The network, ready for images; any number of threads may share it.

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
            weights are brought into an ONNX file in the cache once, by MindSpore.
        threads: of one run of ONNX Runtime; default is one for each core that the process may use.

    Attributes:
        engine: what runs the network; ``engine.source`` says where its weights are from.
        spec: the :class:`multitasknet.NetworkSpec` of the network.
        batch_size, size: as given.
    """

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
        batch_size: int = 8,
        size: tuple[int, int] | None = None,
        backend: Backend = "auto",
        threads: int | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}; expected an integer of at least 1")
        source = WeightsSource(weights, card, cache_dir, offline, progress)
        self.engine = open_engine(
            source, backend=backend, network=network, threads=threads, variant=variant
        )
        self.batch_size = batch_size
        self.spec: NetworkSpec = self.engine.spec
        self.size = check_size(size or self.spec.input_size)

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
        names = self.spec.output_shapes(self.size)
        predictions: list[Prediction] = []
        for outputs in self._run(images, poses):
            for row in zip(*outputs, strict=True):
                index = len(predictions)
                predictions.append(
                    decode(
                        dict(zip(names, row, strict=True)),
                        self.spec,
                        source=_source(images[index], index),
                        pose_given=poses[index] is not None,
                    )
                )
        return predictions

    def embed(
        self,
        images: Sequence[ImageInput],
        keypoints: Sequence[np.ndarray | None] | None = None,
    ) -> np.ndarray:
        """Return the embeddings alone, float32 ``[N, 1024]``; arguments as in :meth:`predict`."""
        batches = [outputs[-1] for outputs in self._run(images, check_poses(images, keypoints))]
        return np.concatenate(batches) if batches else np.empty((0, 1024), dtype=np.float32)

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Call the network on one batch of inputs as :func:`multitasknet.preprocess` makes them.

        Args:
            inputs: ``x``, float32 ``[N, C, H, W]``, and ``p``, float32 ``[N, 108]``.

        Returns:
            The outputs that ``spec.output_shapes`` names, the embedding last.
        """
        return self.engine.run(*inputs)

    def warn_of_missing_pose(self, poses: Sequence[np.ndarray | None]) -> None:
        """Log how many poses are missing, if the network would have used them."""
        missing = sum(pose is None for pose in poses)
        if missing and self.spec.uses_pose:
            logger.warning("%d of %d images: %s", missing, len(poses), MISSING_POSE)

    def prepare(
        self, images: Sequence[ImageInput], poses: Sequence[np.ndarray | None]
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """The network's inputs, as :meth:`run` takes them, a batch at a time.

        While one batch is used, threads prepare the next.
        """
        with ThreadPoolExecutor(usable_cores()) as pool:
            pending: deque[list[Future[Sample]]] = deque()
            for start in range(0, len(images), self.batch_size):
                rows = range(start, min(start + self.batch_size, len(images)))
                pending.append([pool.submit(self._sample, images[i], poses[i]) for i in rows])
                if len(pending) > 1:
                    yield self._batch(pending.popleft())
            while pending:
                yield self._batch(pending.popleft())

    def _run(
        self, images: Sequence[ImageInput], poses: Sequence[np.ndarray | None]
    ) -> Iterator[tuple[np.ndarray, ...]]:
        self.warn_of_missing_pose(poses)
        for inputs in self.prepare(images, poses):
            yield self.run(*inputs)

    def _sample(self, image: ImageInput, pose: np.ndarray | None) -> Sample:
        return make_sample(read_image(image), pose, self.spec)

    def _batch(self, samples: list[Future[Sample]]) -> tuple[np.ndarray, ...]:
        return batch_inputs([one.result() for one in samples], self.spec, self.size)


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
