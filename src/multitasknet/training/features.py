"""The fast path for a frozen backbone: its features are computed once and kept."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from mindspore import Tensor
from tqdm import tqdm

from ..data.records import Split
from ..data.samples import split_fingerprint
from ..files import keep_arrays, read_arrays
from ..models.multitasknet.layout import FROZEN
from ..models.multitasknet.network import MultiTaskNet
from .augmentation import mirror
from .batches import Augment, Batch, Draw, ImageSource
from .task import Job

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

    def plain(self, size: int, order: np.ndarray | None = None) -> Iterator[Batch]:
        order = np.arange(len(self.split)) if order is None else order
        for start in range(0, len(order), size):
            indices = order[start : start + size]
            yield self._batch(indices, np.zeros_like(indices))

    def _batch(self, indices: np.ndarray, views: np.ndarray) -> Batch:
        return Batch(
            inputs=tuple(Tensor(one[views, indices]) for one in self.inputs),
            labels=tuple(Tensor(column) for column in self.labels[:, indices]),
            indices=indices,
        )


def cached_features(
    job: Job, network: MultiTaskNet, source: ImageSource, *, mirrored: bool = False
) -> FeatureSource:
    """Return a split's features, from ``job.output`` if they lie there, else computed and kept.

    They are taken only if backbone, images, keypoints, labels and settings are the same, and the
    file is whole.

    Args:
        job: says where they are kept, and how many images are computed at a time.
        network: its backbone makes the features, in inference mode.
        source: the split's images.
        mirrored: have each image's mirror image as well, as the augmentation flips.
    """
    path = job.output / f"features_{source.split.name}.npz"
    key = _key(network, source, mirrored)
    inputs = ("features", "poses") if network.spec.keypoint_aware else ("features",)
    stored = read_arrays(path, key, (*inputs, "labels"))
    if stored is None:
        logger.info("computing the backbone's features of %d images", len(source.split))
        swap = source.augmentation.flip == "swap"
        views: list[Augment | None] = [None]
        if mirrored:
            views.append(lambda sample, index, place: mirror(sample, swap=swap))
        passes = [_pass(job, network, source, augment) for augment in views]
        *columns, labels = zip(*passes, strict=True)
        stored = dict(zip(inputs, map(np.stack, columns), strict=True)) | {"labels": labels[0].T}
        if job.devices.is_first:
            keep_arrays(path, key, stored)
    return FeatureSource(source.split, tuple(stored[name] for name in inputs), stored["labels"])


def _pass(
    job: Job, network: MultiTaskNet, source: ImageSource, augment: Augment | None
) -> list[np.ndarray]:
    """Features, the other inputs, and labels ``[N, 3]``, of all images."""
    network.set_train(False)
    rows = []
    hidden = None if job.show else True
    with tqdm(total=len(source.split), desc="features", unit="image", disable=hidden) as bar:
        for batch in source.read(job.settings.batch_size, augment=augment):
            image, *others = batch.inputs
            arrays = [network.pool(image).asnumpy().astype(np.float32)]
            arrays += [one.asnumpy() for one in others]
            rows.append([*arrays, np.stack([one.asnumpy() for one in batch.labels], axis=1)])
            bar.update(len(batch.indices))
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def _key(network: MultiTaskNet, source: ImageSource, mirrored: bool) -> str:
    """A digest of all that the features depend on, and the labels kept with them."""
    spec, flip, split = network.spec, source.augmentation.flip, source.split
    labels = [(one.vehicle_id, one.color_id, one.type_id) for one in split.records]
    content = split_fingerprint(split, spec)
    facts = (spec.variant, spec.input_size, mirrored, flip, source.class_maps, labels, content)
    digest = hashlib.sha256(repr(facts).encode())
    for parameter in network.get_parameters():
        if parameter.name.startswith(FROZEN["backbone"]):
            digest.update(parameter.asnumpy().tobytes())
    return digest.hexdigest()
