"""The fast path for a frozen backbone: its features are computed once and kept."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data.records import Split
from ..files import keep_arrays, read_arrays
from ..models.multitasknet.network import MultiTaskNet
from ..vehicle.sample import Sample
from .augmentation import mirror
from .batches import Augment, FeatureSource, ImageSource
from .optimization import BACKBONE

logger = logging.getLogger(__name__)


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
    stored = read_arrays(path, key, ("features", "poses", "labels"))
    if stored is None:
        logger.info("computing the backbone's features of %d images", len(source.split))
        views = [None, _mirrored(source.augmentation.flip)] if mirrored else [None]
        passes = [_pass(network, source, batch_size, augment, show) for augment in views]
        features, poses, labels = zip(*passes, strict=True)
        stored = {"features": np.stack(features), "poses": np.stack(poses), "labels": labels[0]}
        if keep:
            keep_arrays(path, key, stored)
    return FeatureSource(source.split, **stored)


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
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    network.set_train(False)
    features, poses, labels = [], [], []
    bar = tqdm(
        total=len(source.split), desc="features", unit="image", disable=None if show else True
    )
    with bar:
        for batch in source.read(batch_size, augment=augment):
            features.append(network.pool(batch.inputs[0]).asnumpy().astype(np.float32))
            poses.append(batch.inputs[1].asnumpy())
            labels.append(np.stack([column.asnumpy() for column in batch.labels]))
            bar.update(len(batch.indices))
    return np.concatenate(features), np.concatenate(poses), np.concatenate(labels, axis=1)


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
    settings = (source.spec.variant, source.spec.input_size, mirrored, source.augmentation.flip)
    digest = hashlib.sha256(repr((settings, source.class_maps)).encode())
    digest.update(_identity(source.split))
    for parameter in network.get_parameters():
        if parameter.name.startswith(BACKBONE):
            digest.update(parameter.asnumpy().tobytes())
    return digest.hexdigest()
