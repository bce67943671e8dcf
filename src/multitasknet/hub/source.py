"""Which weights are meant, and the file that they are in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..files import expand
from ..models import DEFAULT_NETWORK
from .card import CARD, ENTRIES, ModelCard, load_card, own_card
from .fetch import fetch_asset


@dataclass(frozen=True)
class WeightsSource:
    """Which weights to use; all functions that take weights take these five by keyword.

    :func:`multitasknet.create_network` says what each means. TypeError if one is of another type.
    """

    weights: str | Path | None = CARD
    card: str | Path | ModelCard | None = None
    cache_dir: str | Path | None = None
    offline: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.weights, str | Path | None):
            raise TypeError(
                f"weights must be 'card', 'synthetic', a path or None, not "
                f"{type(self.weights).__name__}: {self.weights!r}"
            )
        if not isinstance(self.card, str | Path | ModelCard | None):
            raise TypeError(
                f"card must be a path or a ModelCard, not {type(self.card).__name__}: {self.card!r}"
            )
        for name in ("offline", "progress"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, not {getattr(self, name)!r}")

    @property
    def suffix(self) -> str:
        """The ending of a local file; empty for a card's asset and for none."""
        return "" if self.weights in (None, *ENTRIES) else Path(str(self.weights)).suffix

    def fetch(self, *networks: str) -> Path | None:
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
            return expand(self.weights)
        card = self.card if self.weights == CARD else None
        if card is None:
            card = own_card(networks or DEFAULT_NETWORK, str(self.weights))
        elif not isinstance(card, ModelCard):
            card = load_card(card)
        return fetch_asset(card, self.cache_dir, self.offline, self.progress)
