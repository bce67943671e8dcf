"""From images to the 36 keypoints of the vehicles in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from ..data.samples import batch_inputs
from ..hub.card import CARD, ModelCard
from ..hub.source import WeightsSource
from ..images import ImageInput
from ..models import find_network, pose_networks
from ..models.base import PoseNetwork
from ..vehicle.keypoints import pose_or_zeros
from ..vehicle.pose import HIDDEN, Pose, PoseConvention, as_published
from ..vehicle.sample import Sample
from .engine import Backend, Hint, Precision
from .runner import Runner, check_images

if TYPE_CHECKING:
    from mindspore import nn

_NO_MAPS = np.zeros((0, 0, 0), np.uint8)


class PoseEstimator(Runner):
    """A pose network, ready for images; any number of threads may share it.

    Which one it is, PoseEstNet or VehiclePose, the weights say; random ones and a card that is not
    given are PoseEstNet's, ``"synthetic"`` ones VehiclePose's.

    Args:
        weights, card, cache_dir, offline, progress, network, batch_size, size, backend, threads,
            device, fp16, precision, hint: as in :class:`multitasknet.Predictor`, of a pose network.
        flip_test: run the network on the mirrored image too, and average, as was published: more
            accurate, and half as fast.
        decode: how a map becomes a place; default is the network's first. PoseEstNet:
            ``published`` (the largest cell and a quarter), or ``dark`` (Zhang et al., CVPR 2020),
            or ``udp``, which is ``dark`` with a flip test that does not move keypoints (after
            Huang et al., CVPR 2020). VehiclePose: ``soft``, the centre of the probability around
            the largest cell.
        hidden: where keypoints are placed that cannot be seen, and what confidences mean then:
            ``true``, where they are, with low confidences; or ``published``, as PoseEstNet does,
            on the side that is seen, with high ones, which is what the published MultiTaskNet
            expects. Default is what the weights were trained on; those of ``published`` cannot
            give ``true``.

    Attributes:
        engine, spec, batch_size, size, flip_test, decode: as given, or the network's own.
        pose_convention: what the confidences of its poses mean.
        definition: the network's, which says what its outputs mean.
    """

    def __init__(
        self,
        weights: str | Path | None = CARD,
        *,
        network: nn.Cell | None = None,
        card: str | Path | ModelCard | None = None,
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
        flip_test: bool = True,
        decode: str | None = None,
        hidden: str | None = None,
    ) -> None:
        source = WeightsSource(weights, card, cache_dir, offline, progress)
        super().__init__(
            [one.name for one in pose_networks()],
            source,
            network=network,
            batch_size=batch_size,
            size=size,
            backend=backend,
            threads=threads,
            device=device,
            fp16=fp16,
            precision=precision,
            hint=hint,
        )
        self.definition = cast("PoseNetwork", find_network(self.spec.network))
        if not self.spec.is_complete:
            raise ValueError(
                "the network has no last layer, which finds the keypoints; give one with it"
            )
        self.pose_convention = _convention(hidden, self.spec.pose_convention)
        self.flip_test = flip_test
        self.decode = decode or self.definition.decodings[0]
        if self.decode not in self.definition.decodings:
            raise ValueError(
                f"decode is {decode!r}; {self.definition.name} has "
                f"{' or '.join(self.definition.decodings)}"
            )

    @cached_property
    def origin(self) -> str:
        """All that makes an estimate of a picture, as JSON; other estimators have another one."""
        facts = {
            "weights_sha256": self.engine.weights_sha256,
            "precision": self.engine.precision,
            "size": self.size,
            "flip_test": self.flip_test,
            "decode": self.decode,
            "pose_convention": self.pose_convention,
            "preprocessing": self.definition.preprocessing_version,
        }
        return json.dumps(facts, sort_keys=True)

    def estimate(self, images: Sequence[ImageInput], *, heatmaps: bool = False) -> list[Pose]:
        """Find the keypoints of vehicle crops.

        Any picture gives a pose; one without a vehicle has low confidences.

        Args:
            images: paths, Pillow images or uint8 arrays ``[H, W, 3]`` (RGB), in any mix.
            heatmaps: keep the network's maps in the result, float32 ``[36, H / 4, W / 4]`` of the
                network's input, which shows the image in its middle.

        Returns:
            A pose an image, in pixels of that image. PoseEstNet's confidence is the map's largest
            value: around 1 where a keypoint is clear, possibly above, below 0 possibly.
            VehiclePose's is the probability, 0..1, that the keypoint is visible; with ``hidden``
            ``published`` it is what PoseEstNet's usually are. Its ``half_turn`` says how far the
            maps doubt which way the vehicle faces.

        Raises:
            ImageError: an image cannot be read; nothing is estimated then.
        """
        check_images(images)
        poses: list[Pose] = []
        for shots in self.read(images, size=self.size):
            found = self.estimate_pixels([shot.pixels for shot in shots], heatmaps=heatmaps)
            poses += [pose.scaled(shot.divisor) for pose, shot in zip(found, shots, strict=True)]
        return poses

    def prepare(
        self, images: Sequence[ImageInput], keypoints: object = None
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """The network's inputs, as :meth:`run` takes them, a batch at a time; no pose is needed."""
        for shots in self.read(images, size=self.size):
            yield self._inputs([shot.pixels for shot in shots])

    def estimate_pixels(
        self, pixels: Sequence[np.ndarray], *, heatmaps: bool = False
    ) -> list[Pose]:
        """:meth:`estimate` for one batch of pictures in memory, uint8 ``[H, W, 3]`` each."""
        peaks, maps = self._found(*self._inputs(pixels))
        shares = self.definition.half_turn_shares(peaks, maps)
        poses = []
        for one, found, map_, share in zip(pixels, peaks, maps, shares, strict=True):
            height, width = one.shape[:2]
            keypoints = self.definition.keypoints_in_image(
                found, width=width, height=height, size=self.size
            )
            if self.pose_convention != self.spec.pose_convention:
                keypoints = as_published(keypoints)
            poses.append(Pose(keypoints, "estimated", map_ if heatmaps else None, share))
        return poses

    def _inputs(self, pixels: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        neutral = pose_or_zeros(None)
        samples = [Sample(one, neutral, _NO_MAPS) for one in pixels]
        return batch_inputs(samples, self.spec, self.size)

    def _found(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Peaks and maps of one batch of inputs."""
        outputs = self.run(x)
        mirrored = self.run(np.ascontiguousarray(x[..., ::-1])) if self.flip_test else None
        return self.definition.decode(outputs, mirrored, self.decode)


def _convention(hidden: str | None, own: PoseConvention) -> PoseConvention:
    """What is asked for, if weights of their ``own`` convention can give it; else ValueError."""
    if hidden is None:
        return own
    if hidden not in HIDDEN:
        raise ValueError(f"hidden is {hidden!r}; expected {' or '.join(HIDDEN)}")
    if HIDDEN[hidden] == "visibility" and own == "published":
        raise ValueError(
            "hidden is 'true', but these weights place hidden keypoints as they were published, "
            "and do not say which these are; use weights of the convention visibility, such as "
            "'synthetic'"
        )
    return HIDDEN[hidden]
