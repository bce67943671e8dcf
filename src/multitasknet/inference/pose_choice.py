"""Where missing poses come from: the words of ``--pose``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ..errors import MultiTaskNetError
from ..hub.cache import cached_path, is_verified
from ..hub.card import load_card
from ..hub.source import CARD, default_card_path
from .pose_estimator import NAME, PoseEstimator

logger = logging.getLogger(__name__)

AUTO, NONE = "auto", "none"
WORDS = (AUTO, NONE, CARD)


class PoseError(MultiTaskNetError, ValueError):
    """Poses that cannot be had from where they were asked for."""


def open_pose_estimator(
    pose: str | Path | PoseEstimator, *, cache_dir: str | Path | None = None, **options: Any
) -> PoseEstimator | None:
    """The pose estimator that is asked for; None if poses are to be neutral.

    Args:
        pose: ``auto``: the published weights if a verified copy is in the cache, else none;
            ``none``; ``card``: the published weights, downloaded once; a file of pose weights; or
            an estimator.
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
        asset = load_card(default_card_path(NAME)).asset
        if not is_verified(cached_path(asset, cache_dir), asset):
            return None
        logger.info("missing poses are estimated by %s", asset.file_name)
        return PoseEstimator(CARD, cache_dir=cache_dir, **(options | {"offline": True}))
    if pose != CARD and not Path(pose).expanduser().is_file():
        raise PoseError(
            f"pose is {str(pose)!r}; expected {', '.join(WORDS)}, or a file of pose weights that "
            f"exists"
        )
    return PoseEstimator(pose, cache_dir=cache_dir, **options)
