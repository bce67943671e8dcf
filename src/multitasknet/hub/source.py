"""Which weights are meant, and the file that they are in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DownloadError
from ..files import expand
from ..models import DEFAULT_NETWORK, NETWORKS
from ..weights.read import WeightsFile
from .card import CARD, ENTRIES, SYNTHETIC, Asset, ModelCard, load_card, own_card, shipped_networks
from .download import asset_path, fetch_asset

DEFAULT, NONE = "default", "none"
WEIGHTS_VARIABLE = "MULTITASKNET_WEIGHTS"


@dataclass(frozen=True)
class WeightsSource:
    """Which weights to use; all functions that take weights take these five by keyword.

    See :func:`multitasknet.create_network` for their meaning.
    """

    weights: str | Path | None = CARD
    card: str | Path | ModelCard | None = None
    cache_dir: str | Path | None = None
    offline: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        if self.card is not None and self.weights not in (None, CARD):
            raise ValueError(f"weights are {str(self.weights)!r} and a card is given; give one")

    @property
    def suffix(self) -> str:
        """The ending of a local file; empty for a card's asset and for none."""
        return "" if self.weights in (None, *ENTRIES) else Path(str(self.weights)).suffix

    def file(self, *networks: str) -> WeightsFile | None:
        """The file, downloaded if need be; None if there is none.

        Args:
            networks: whose; of several the first that has such weights.

        Raises:
            CardError, DownloadError: as :func:`multitasknet.load_card` and
                :func:`multitasknet.fetch_asset`.
        """
        if self.weights is None:
            return None
        if self.weights not in ENTRIES:
            return WeightsFile(expand(self.weights))
        card = self.card if self.weights == CARD else None
        if self.weights in NETWORKS:
            card = own_card(str(self.weights), SYNTHETIC)
        elif card is None:
            card = own_card(networks or DEFAULT_NETWORK, str(self.weights))
        elif not isinstance(card, ModelCard):
            card = load_card(card)
        asset, side = card.asset, card.asset.side
        # What came with its card is hashed when it is read; what is in the cache is downloaded
        # again if it is damaged.
        if asset.beside is None:
            self._download(asset)
        path = asset_path(asset, self.cache_dir)
        return WeightsFile(path, asset.sha256, side.sha256 if side else "")

    def _download(self, asset: Asset) -> None:
        try:
            fetch_asset(asset, self.cache_dir, self.offline, self.progress)
        except DownloadError as error:
            others = " and ".join(shipped_networks())
            if not others:
                raise
            raise DownloadError(
                f"{error}\nWithout a download there are the weights {SYNTHETIC!r} of {others}"
            ) from error


def default_weights(
    networks: Sequence[str], card: str | Path | ModelCard | None = None
) -> str | Path | None:
    """The weights that ``default`` means.

    The card's if one is given; else what the environment variable ``MULTITASKNET_WEIGHTS`` names,
    for MultiTaskNet; else the shipped weights of the first of the networks that has some, or the
    card's.
    """
    if card is not None:
        return CARD
    if DEFAULT_NETWORK in networks and (chosen := os.environ.get(WEIGHTS_VARIABLE)):
        return None if chosen == NONE else chosen
    return SYNTHETIC if set(networks) & set(shipped_networks()) else CARD
