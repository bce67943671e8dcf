"""Where missing poses come from: the words of ``--pose``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ..errors import MultiTaskNetError
from ..files import expand
from ..hub.card import CARD, ENTRIES, SYNTHETIC, ModelCard, default_card_path, load_card
from ..hub.fetch import find_asset
from ..models import pose_networks
from .pose_estimator import PoseEstimator

logger = logging.getLogger(__name__)

AUTO, NONE = "auto", "none"
WORDS = (AUTO, NONE, *ENTRIES)


class PoseError(MultiTaskNetError, ValueError):
    """Poses that cannot be had from where they were asked for."""


def open_pose_estimator(
    pose: str | Path | PoseEstimator, *, cache_dir: str | Path | None = None, **options: Any
) -> PoseEstimator | None:
    """The pose estimator that is asked for; None if poses are to be neutral.

    Args:
        pose: ``auto``: the published weights if a verified copy is in the cache, else the shipped
            ones, else none; ``none``; ``card``: the published weights, downloaded once;
            ``synthetic``: the shipped ones; a file of pose weights; or an estimator.
        cache_dir: the root of the download cache.
        options: of :class:`PoseEstimator`.

    Raises:
        PoseError: no such word and no such file.
        CheckpointError: the file is no pose network's.
        CardError, DownloadError: as :func:`multitasknet.fetch_asset` raises them.
    """
    if isinstance(pose, PoseEstimator):
        return pose
    if not isinstance(pose, str | Path):
        raise TypeError(
            f"pose must be a word, a path or a PoseEstimator, not {type(pose).__name__}"
        )
    if pose == NONE:
        return None
    if pose == AUTO:
        card = _at_hand(cache_dir)
        if card is None:
            return None
        logger.info("missing poses are estimated by %s", card.asset.file_name)
        return PoseEstimator(CARD, card=card, cache_dir=cache_dir, **(options | {"offline": True}))
    if pose not in ENTRIES and not expand(pose).is_file():
        raise PoseError(
            f"pose is {str(pose)!r}; expected {', '.join(WORDS)}, or a file of pose weights that "
            f"exists"
        )
    return PoseEstimator(pose, cache_dir=cache_dir, **options)


def _at_hand(cache_dir: str | Path | None) -> ModelCard | None:
    """The first card whose weights need no download: the published one's, then a shipped one's."""
    names = [network.name for network in pose_networks()]
    places = [default_card_path(names[0])]
    places += [default_card_path(name, SYNTHETIC) for name in names]
    for card in (load_card(place) for place in places if place.is_file()):
        if find_asset(card.asset, cache_dir) is not None:
            return card
    return None
