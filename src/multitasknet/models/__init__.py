"""The networks: a folder each, which holds all that is true of that network alone.

The rest of the package knows a network by its :class:`~.base.Network` and its spec.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Network, PoseNetwork
    from .embedding import EmbeddingNetwork

# The one table of networks: name, as the Hub client passes it, to the module with its NETWORK.
NETWORKS = {
    "multitasknet": ".multitasknet.definition",
    "poseestnet": ".poseestnet.definition",
    "vehiclepose": ".vehiclepose.definition",
    "vehiclereid": ".vehiclereid.definition",
}
DEFAULT_NETWORK = "multitasknet"


def find_network(name: str) -> Network:
    """The network of that name, in any case.

    Raises:
        NotImplementedError: there is no such network; the message is the model zoo's.
        TypeError: the name is no string.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, not {type(name).__name__}: {name!r}")
    if name.lower() not in NETWORKS:
        raise NotImplementedError(f"{name} is not implemented in the repo")
    network: Network = import_module(NETWORKS[name.lower()], __name__).NETWORK
    return network


def all_networks() -> tuple[Network, ...]:
    """All networks, in the table's order."""
    return tuple(map(find_network, NETWORKS))


def pose_networks() -> tuple[PoseNetwork, ...]:
    """Those that find keypoints."""
    from .base import PoseNetwork

    return tuple(network for network in all_networks() if isinstance(network, PoseNetwork))


def embedding_networks() -> tuple[EmbeddingNetwork, ...]:
    """Those that embed vehicles."""
    from .embedding import EmbeddingNetwork

    return tuple(network for network in all_networks() if isinstance(network, EmbeddingNetwork))
