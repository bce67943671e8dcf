"""From images to the 36 keypoints of the vehicles in them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..data.samples import batch_inputs, make_sample
from ..errors import EngineError
from ..files import expand
from ..hub.card import CARD, ENTRIES, SYNTHETIC, default_card_path, load_card, shipped_networks
from ..hub.download import asset_path
from ..hub.source import DEFAULT
from ..models import POSE_NETWORKS, find_network
from ..models.base import PoseNetwork
from ..vehicle.pose import HIDDEN, Pose, PoseConvention, as_published
from .runner import PosedImage, Runner, RunnerOptions, Skip, Source

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

AUTO, NONE = "auto", "none"


class PoseEstimator(Runner):
    """A pose network, ready for images; any number of threads may share it.

    Which one it is, PoseEstNet or VehiclePose, follows from the weights; random ones and the
    default card are PoseEstNet's, the shipped weights VehiclePose's.

    Args:
        weights: as in :class:`multitasknet.Predictor`, of a pose network; ``default`` is the
            shipped one.
        flip_test: run the network on the mirrored image too, and average, as was published: more
            accurate, and half as fast.
        hidden: where keypoints are placed that cannot be seen, and what confidences mean then:
            ``true``, where they are, with low confidences; or ``published``, as PoseEstNet does,
            on the side that is seen, with high ones, which is what the published MultiTaskNet
            expects. Default is what the weights were trained on; those of ``published`` cannot
            give ``true``.
        options: the other options of :class:`multitasknet.Predictor`, but for ``pose``.

    Attributes:
        engine, spec, batch_size, size, weights_file: see :class:`.runner.Runner`.
        flip_test: as given.
        pose_convention: what the confidences of its poses mean.
        definition: the network, which knows what its outputs mean.

    Raises:
        ValueError: a placement of hidden keypoints that these weights do not have.
    """

    def __init__(
        self,
        weights: str | Path | None = DEFAULT,
        *,
        flip_test: bool = True,
        hidden: str | None = None,
        **options: Unpack[RunnerOptions],
    ) -> None:
        super().__init__(POSE_NETWORKS, weights, **options)
        self.definition = cast("PoseNetwork", find_network(self.spec.network))
        own: PoseConvention = self.spec.pose_convention
        if hidden not in (None, *HIDDEN):
            raise ValueError(f"hidden is {hidden!r}; expected {' or '.join(HIDDEN)}")
        self.pose_convention = HIDDEN[hidden] if hidden else own
        if (self.pose_convention, own) == ("visibility", "published"):
            raise ValueError(
                "hidden is 'true', but these weights place hidden keypoints as they were "
                "published, and do not state which these are; use weights of the convention "
                "visibility, such as 'synthetic'"
            )
        self.flip_test = flip_test

    def stream(self, images: Iterable[Source], *, skip: Skip | None = None) -> Iterator[PosedImage]:
        """Find the keypoints of vehicle crops, of any number of them.

        Any picture gives a pose; whether it shows one vehicle, its ``quality`` says. Poses that
        records bring are replaced.

        Args:
            images, skip: as in :meth:`multitasknet.Predictor.stream`.

        Returns:
            The images with their poses, in pixels of each image. PoseEstNet's confidence is the
            map's largest value: around 1 where a keypoint is clear, possibly above, below 0
            possibly. VehiclePose's is the probability, 0..1, that the keypoint is visible; with
            ``hidden`` ``published`` it is what PoseEstNet's usually are. Its ``half_turn`` is how
            far the maps doubt which way the vehicle faces.
        """
        for inputs, shots in self.batches(images, skip=skip):
            found = self.estimate_pixels([shot.pixels for shot in shots], inputs)
            yield from map(PosedImage.with_pose, shots, found)

    def estimate(self, images: Iterable[Source]) -> list[Pose]:
        """The poses of :meth:`stream` as a list."""
        return [shot.pose for shot in self.stream(images)]

    def estimate_pixels(
        self, pixels: Sequence[np.ndarray], inputs: tuple[np.ndarray, ...] | None = None
    ) -> list[Pose]:
        """The poses of one batch of pictures in memory, uint8 ``[H, W, 3]`` each.

        ``inputs`` are the network's of these, where they are drawn already.
        """
        if inputs is None:
            samples = [make_sample(one, None, self.spec) for one in pixels]
            inputs = batch_inputs(samples, self.spec, self.size)
        outputs, mirrored = self.engine.run(*inputs), None
        if self.flip_test:
            mirrored = self.engine.run(*(np.ascontiguousarray(x[..., ::-1]) for x in inputs))
        found = self.definition.decode(outputs, mirrored)
        poses = []
        for row, (height, width, _) in enumerate(one.shape for one in pixels):
            keypoints = self.definition.keypoints_in_image(
                found.peaks[row], width=width, height=height, size=self.size
            )
            if self.pose_convention != self.spec.pose_convention:
                keypoints = as_published(keypoints)
            half_turn = None if found.half_turns is None else float(found.half_turns[row])
            contents = None if found.contents is None else found.contents[row]
            poses.append(Pose(keypoints, "estimated", half_turn, contents))
        return poses


def open_pose_estimator(
    pose: str | Path | PoseEstimator,
    *,
    convention: PoseConvention | None = None,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> PoseEstimator | None:
    """The pose estimator that is asked for; None if poses are to be neutral.

    ``pose`` is as in :class:`multitasknet.Predictor`, else EngineError; ``convention`` is what
    confidences should mean: ``auto`` takes no weights of another one, others are warned of.
    """
    options["cache_dir"] = cache_dir
    if pose == AUTO:
        pose, options["offline"] = pose_at_hand(convention, cache_dir), True
        logger.info("missing poses are estimated by the weights %r", pose)
    if pose == NONE:
        return None
    if convention == "published":  # which all pose networks can give
        options["hidden"] = "published"
    if isinstance(pose, PoseEstimator):
        estimator = pose
    elif pose in ENTRIES or expand(pose).is_file():
        estimator = PoseEstimator(pose, **options)
    else:
        raise EngineError(
            f"pose is {str(pose)!r}; expected auto, none, card, synthetic, or a file of pose "
            f"weights that exists"
        )
    if convention not in (None, estimator.pose_convention):
        logger.warning(
            "the pose network's confidences follow the convention %r, but these weights were "
            "trained on %r: expect lower accuracy",
            estimator.pose_convention,
            convention,
        )
    return estimator


def pose_at_hand(convention: PoseConvention | None, cache_dir: str | Path | None) -> str:
    """The pose weights that need no download: ``card``, ``synthetic``, or else ``none``.

    The published ones come first where their convention is wanted.
    """
    card = default_card_path(POSE_NETWORKS[0])
    may_be_published = convention != "visibility" and card.is_file()
    if may_be_published and asset_path(load_card(card).asset, cache_dir).is_file():
        return CARD
    return SYNTHETIC if shipped_networks(POSE_NETWORKS) else NONE
