"""The networks: a folder each, which holds all that is true of that network alone.

The rest of the package knows a network by its :class:`~.base.Network` and its spec.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Network

# The one table of networks, by what they find. Of each kind the first is whose random weights and
# published card are meant where none is named.
EMBEDDING_NETWORKS = ("multitasknet", "vehiclereid")
POSE_NETWORKS = ("poseestnet", "vehiclepose")
# Name, as the Hub client passes it, to the module with its NETWORK.
NETWORKS = {name: f".{name}.definition" for name in sorted((*EMBEDDING_NETWORKS, *POSE_NETWORKS))}
DEFAULT_NETWORK = EMBEDDING_NETWORKS[0]


def find_network(name: str) -> Network:
    """The network of that name, in any case; NotImplementedError, as in the model zoo, if none
    is."""
    if name.lower() not in NETWORKS:
        raise NotImplementedError(f"{name} is not implemented in the repo")
    network: Network = import_module(NETWORKS[name.lower()], __name__).NETWORK
    return network
