"""Which weights are meant, and the file that they are in."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import CardError, DownloadError
from ..files import expand
from ..models import DEFAULT_NETWORK, NETWORKS
from ..weights.read import WeightsFile, check_network
from .card import (
    CARD,
    ENTRIES,
    SYNTHETIC,
    ModelCard,
    default_card_path,
    load_card,
    own_card,
    shipped_networks,
)
from .download import asset_path, fetch_asset

DEFAULT, NONE = "default", "none"
WEIGHTS_VARIABLE = "MULTITASKNET_WEIGHTS"
_STATED = re.compile(r"(?:asset|side)-sha256: ([0-9a-f]{64})$", re.M)


@dataclass(frozen=True)
class WeightsSource:
    """Which weights to use; all functions that take weights take these five by keyword.

    See :func:`multitasknet.create_network` and :class:`multitasknet.Predictor` for their meaning.
    """

    weights: str | Path | None = CARD
    card: str | Path | ModelCard | None = None
    cache_dir: str | Path | None = None
    offline: bool = False
    progress: bool = True

    def resolved(self, *networks: str) -> WeightsSource:
        """What the words mean for these networks, or else for MultiTaskNet.

        Weights are then None, a file, ``card``, or the network whose shipped ones they are.
        CardError for weights beside a card.
        """
        networks = networks or (DEFAULT_NETWORK,)
        weights, card = self.weights, self.card
        if card is not None and weights not in (None, DEFAULT, CARD):
            raise CardError(f"weights are {str(weights)!r} and a card is given; give one")
        if weights == DEFAULT:
            weights = default_weights(networks, card)
        if weights == SYNTHETIC:
            weights = next(iter(shipped_networks(networks)), SYNTHETIC)
        elif str(weights).endswith(".md"):
            weights, card = CARD, weights
        return replace(self, weights=None if weights == NONE else weights, card=card)

    def file(self, *networks: str) -> WeightsFile | None:
        """The file of the first of the networks that has such weights, downloaded if need be; None
        if there is none.

        Raises:
            CardError, DownloadError: as :func:`multitasknet.load_card` and
                :func:`multitasknet.fetch_asset`.
            CheckpointError: the card is another network's.
        """
        source = self.resolved(*networks)
        if source.weights is None:
            return None
        if source.weights not in ENTRIES:
            return WeightsFile(expand(source.weights))
        shipped = _shipped_file(str(source.weights)) if source.weights in NETWORKS else None
        return shipped or source._asset_file(*networks)

    def model_card(self, *networks: str) -> ModelCard:
        """The card that is given, or else the one that comes with the weights.

        Of a file it is the published card of the first of the networks. Errors as :meth:`file`.
        """
        source = self.resolved(*networks)
        if source.card is None:
            is_card = source.weights not in (SYNTHETIC, *NETWORKS)
            owner = (str(source.weights),) if source.weights in NETWORKS else networks
            return own_card(owner or (DEFAULT_NETWORK,), CARD if is_card else SYNTHETIC)
        card = source.card if isinstance(source.card, ModelCard) else load_card(source.card)
        if networks and card.network in NETWORKS:
            check_network(card.network, networks, str(card.path))
        return card

    def _asset_file(self, *networks: str) -> WeightsFile:
        asset = self.model_card(*networks).asset
        # What came with its card is hashed when it is read; what is in the cache is downloaded
        # again if it is damaged.
        if asset.beside is None:
            try:
                fetch_asset(asset, self.cache_dir, self.offline, self.progress)
            except DownloadError as error:
                others = " and ".join(shipped_networks())
                if not others:
                    raise
                raise DownloadError(
                    f"{error}\nWithout a download there are the weights {SYNTHETIC!r} of {others}"
                ) from error
        path = asset_path(asset, self.cache_dir)
        return WeightsFile(path, asset.sha256, asset.side.sha256 if asset.side else "")


def default_weights(
    networks: Sequence[str], card: str | Path | ModelCard | None = None
) -> str | Path | None:
    """The weights that ``default`` means: the card's if one is given; else what the environment
    variable ``MULTITASKNET_WEIGHTS`` names, for MultiTaskNet; else the shipped ones of the first
    of the networks that has some, or the card's."""
    if card is not None:
        return CARD
    if DEFAULT_NETWORK in networks and (chosen := os.environ.get(WEIGHTS_VARIABLE)):
        return None if chosen == NONE else chosen
    return SYNTHETIC if shipped_networks(networks) else CARD


def _shipped_file(network: str) -> WeightsFile | None:
    """The weights beside their card, whose hashes alone are looked up in it; None if elsewhere."""
    card = default_card_path(network, SYNTHETIC)
    weights = card.with_suffix(".ckpt")
    if not (card.is_file() and weights.is_file()):
        return None
    return WeightsFile(weights, *_STATED.findall(card.read_text(encoding="utf-8")))
