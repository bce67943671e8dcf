"""From images to the 36 keypoints of the vehicles in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.samples import batch_inputs
from ..hub.card import ModelCard
from ..hub.source import CARD, WeightsSource
from ..images import ImageInput
from ..models.poseestnet.decoding import (
    DECODINGS,
    Decoding,
    find_peaks,
    keypoints_in_image,
    unmirrored,
)
from ..models.poseestnet.preprocessing import PREPROCESSING
from ..models.poseestnet.spec import PoseSpec
from ..vehicle.keypoints import pose_or_zeros
from ..vehicle.pose import Pose
from ..vehicle.sample import Sample
from .engine import Backend
from .runner import Runner, check_images

if TYPE_CHECKING:
    from ..models.poseestnet.network import PoseEstNet

NAME = "poseestnet"
_NO_MAPS = np.zeros((0, 0, 0), np.uint8)


class PoseEstimator(Runner):
    """The pose network, ready for images; any number of threads may share it.

    Args:
        weights, card, cache_dir, offline, progress, network, batch_size, size, backend, threads:
            as in :class:`multitasknet.Predictor`, of PoseEstNet.
        flip_test: run the network on the mirrored image too, and average, as was published: more
            accurate, and half as fast.
        decode: how a map becomes a place: ``published`` (the largest cell and a quarter), or
            ``dark`` (Zhang et al., CVPR 2020), or ``udp``, which is ``dark`` with a flip test that
            does not move keypoints (after Huang et al., CVPR 2020).

    Attributes:
        engine, spec, batch_size, size, flip_test, decode: as given, or the network's own.
    """

    spec: PoseSpec

    def __init__(
        self,
        weights: str | Path | None = CARD,
        *,
        network: PoseEstNet | None = None,
        card: str | Path | ModelCard | None = None,
        cache_dir: str | Path | None = None,
        offline: bool = False,
        progress: bool = True,
        batch_size: int = 8,
        size: tuple[int, int] | None = None,
        backend: Backend = "auto",
        threads: int | None = None,
        flip_test: bool = True,
        decode: Decoding = "published",
    ) -> None:
        if decode not in DECODINGS:
            raise ValueError(f"decode is {decode!r}; expected one of {', '.join(DECODINGS)}")
        source = WeightsSource(weights, card, cache_dir, offline, progress)
        super().__init__(
            NAME,
            source,
            network=network,
            batch_size=batch_size,
            size=size,
            backend=backend,
            threads=threads,
        )
        if not self.spec.include_top:
            raise ValueError(
                "the network has no last layer, which finds the keypoints; give one with it"
            )
        self.flip_test = flip_test
        self.decode: Decoding = decode

    @cached_property
    def origin(self) -> str:
        """All that makes an estimate of a picture, as JSON; other estimators have another one."""
        facts = {
            "weights_sha256": self.engine.weights_sha256,
            "precision": self.engine.precision,
            "size": self.size,
            "flip_test": self.flip_test,
            "decode": self.decode,
            "preprocessing": PREPROCESSING,
        }
        return json.dumps(facts, sort_keys=True)

    def estimate(self, images: Sequence[ImageInput], *, heatmaps: bool = False) -> list[Pose]:
        """Find the keypoints of vehicle crops.

        Any picture gives a pose; one without a vehicle has low confidences.

        Args:
            images: paths, Pillow images or uint8 arrays ``[H, W, 3]`` (RGB), in any mix.
            heatmaps: keep the network's maps in the result, float32 ``[36, H / 4, W / 4]`` of the
                network's input, which shows a square of 1.25 times the longer side around the
                image's centre.

        Returns:
            A pose an image, in pixels of that image. The confidence is the map's largest value:
            around 1 where a keypoint is clear, possibly above, below 0 possibly.

        Raises:
            ImageError: an image cannot be read; nothing is estimated then.
        """
        check_images(images)
        poses: list[Pose] = []
        for pixels in self.read_ahead(images):
            poses += self.estimate_pixels(pixels, heatmaps=heatmaps)
        return poses

    def prepare(
        self, images: Sequence[ImageInput], keypoints: object = None
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """The network's inputs, as :meth:`run` takes them, a batch at a time; no pose is needed."""
        for pixels in self.read_ahead(images):
            yield self._inputs(pixels)

    def estimate_pixels(
        self, pixels: Sequence[np.ndarray], *, heatmaps: bool = False
    ) -> list[Pose]:
        """:meth:`estimate` for one batch of pictures in memory, uint8 ``[H, W, 3]`` each."""
        maps = self._maps(*self._inputs(pixels))
        peaks = find_peaks(maps, self.decode)
        poses = []
        for one, found, map_ in zip(pixels, peaks, maps, strict=True):
            height, width = one.shape[:2]
            keypoints = keypoints_in_image(found, width=width, height=height, size=self.size)
            poses.append(Pose(keypoints, "estimated", map_ if heatmaps else None))
        return poses

    def _inputs(self, pixels: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        neutral = pose_or_zeros(None)
        samples = [Sample(one, neutral, _NO_MAPS) for one in pixels]
        return batch_inputs(samples, self.spec, self.size)

    def _maps(self, x: np.ndarray) -> np.ndarray:
        (maps,) = self.run(x)
        if not self.flip_test:
            return maps
        (mirrored,) = self.run(np.ascontiguousarray(x[..., ::-1]))
        return (maps + unmirrored(mirrored, self.decode)) * np.float32(0.5)
