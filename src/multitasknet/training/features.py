"""The fast path for a frozen backbone: its features are computed once and kept."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mindspore import Tensor
from tqdm import tqdm

from ..data.records import Split
from ..files import keep_arrays, read_arrays
from ..models.multitasknet.definition import FROZEN
from ..models.multitasknet.network import MultiTaskNet
from ..vehicle.sample import Sample
from .augmentation import mirror
from .batches import Augment, Batch, Draw, ImageSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """Batches for the head alone, from the features of a frozen backbone.

    Attributes:
        split: the images.
        inputs: of the head: features, float32 ``[views, N, 1024]``, and for a keypoint-aware
            network poses, ``[views, N, 108]``. View 0 is the plain image, 1 its mirror image.
        labels: int32 ``[3, N]``: identity, color, type.
    """

    split: Split
    inputs: tuple[np.ndarray, ...]
    labels: np.ndarray

    def training(self, batches: np.ndarray, draw: Draw) -> Iterator[Batch]:
        for step, indices in enumerate(batches, start=draw.step):
            rng = np.random.default_rng((draw.seed, draw.epoch, draw.rank, step))
            yield self._batch(indices, rng.integers(len(self.inputs[0]), size=len(indices)))

    def plain(self, size: int) -> Iterator[Batch]:
        for start in range(0, len(self.split), size):
            indices = np.arange(start, min(start + size, len(self.split)))
            yield self._batch(indices, np.zeros_like(indices))

    def _batch(self, indices: np.ndarray, views: np.ndarray) -> Batch:
        return Batch(
            inputs=tuple(Tensor(one[views, indices]) for one in self.inputs),
            labels=tuple(Tensor(column) for column in self.labels[:, indices]),
            indices=indices,
        )


def cached_features(
    network: MultiTaskNet,
    source: ImageSource,
    path: Path,
    *,
    batch_size: int,
    mirrored: bool = False,
    keep: bool = True,
    show: bool = False,
) -> FeatureSource:
    """Return the features of a split, from ``path`` if they lie there, else computed and kept.

    Args:
        network: its backbone makes the features, in inference mode.
        source: the split's images.
        path: an ``.npz`` file; taken only if backbone, images, keypoints, labels and settings
            are the same, and it is whole.
        batch_size: images at a time.
        mirrored: have each image's mirror image as well, as the augmentation flips.
        keep: write what was computed.
        show: draw a progress bar on a terminal.
    """
    key = _key(network, source, mirrored)
    inputs = ("features", "poses") if network.spec.keypoint_aware else ("features",)
    stored = read_arrays(path, key, (*inputs, "labels"))
    if stored is None:
        logger.info("computing the backbone's features of %d images", len(source.split))
        views = [None, _mirrored(source.augmentation.flip)] if mirrored else [None]
        passes = [_pass(network, source, batch_size, augment, show) for augment in views]
        *columns, labels = zip(*passes, strict=True)
        stored = dict(zip(inputs, map(np.stack, columns), strict=True)) | {"labels": labels[0].T}
        if keep:
            keep_arrays(path, key, stored)
    return FeatureSource(source.split, tuple(stored[name] for name in inputs), stored["labels"])


def _mirrored(flip: str) -> Augment:
    def augment(sample: Sample, index: int, place: int) -> Sample:
        return mirror(sample, swap=flip == "swap")

    return augment


def _pass(
    network: MultiTaskNet,
    source: ImageSource,
    batch_size: int,
    augment: Augment | None,
    show: bool,
) -> list[np.ndarray]:
    """Features, the other inputs, and labels ``[N, 3]``, of all images."""
    network.set_train(False)
    rows = []
    bar = tqdm(
        total=len(source.split), desc="features", unit="image", disable=None if show else True
    )
    with bar:
        for batch in source.read(batch_size, augment=augment):
            image, *others = batch.inputs
            arrays = [network.pool(image).asnumpy().astype(np.float32)]
            arrays += [one.asnumpy() for one in others]
            rows.append([*arrays, np.stack([one.asnumpy() for one in batch.labels], axis=1)])
            bar.update(len(batch.indices))
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def _identity(split: Split) -> bytes:
    """A digest of the images and all that is known of them; a pack stands for its images."""
    digest = hashlib.sha256(b"" if split.pack is None else _stamp(split.pack))
    for record in split.records:
        facts = (record.image, record.vehicle_id, record.color_id, record.type_id)
        digest.update(repr((*facts, record.heatmaps, record.segments)).encode())
        if record.keypoints is not None:
            digest.update(record.keypoints.tobytes())
        if split.pack is None:
            digest.update(_stamp(record.image))
    return digest.digest()


def _stamp(path: Path) -> bytes:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}".encode()


def _key(network: MultiTaskNet, source: ImageSource, mirrored: bool) -> str:
    spec, flip = network.spec, source.augmentation.flip
    settings = (spec.variant, spec.input_size, mirrored, flip)
    digest = hashlib.sha256(repr((settings, source.class_maps)).encode())
    digest.update(_identity(source.split))
    for parameter in network.get_parameters():
        if parameter.name.startswith(FROZEN["backbone"]):
            digest.update(parameter.asnumpy().tobytes())
    return digest.hexdigest()
