"""``create_network``: what the MindSpore Hub client calls, and users too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models import DEFAULT_NETWORK, find_network
from .card import CARD, ModelCard
from .source import WeightsSource

if TYPE_CHECKING:
    from ..models.layers import VehicleCell


def create_network(
    name: str = DEFAULT_NETWORK,
    *,
    weights: str | Path | None = CARD,
    card: str | Path | ModelCard | None = None,
    cache_dir: str | Path | None = None,
    offline: bool = False,
    progress: bool = True,
    **options: Any,
) -> VehicleCell:
    """Create a network; all its weights are trainable.

    The architecture comes from the checkpoint. The Cell's ``spec`` states it, its
    ``load_report`` what was loaded. A file that holds a backbone alone, such as torchvision's,
    gets a fresh head of the default architecture.

    Args:
        name: ``multitasknet``, ``poseestnet``, ``vehiclepose`` or ``vehiclereid``; the Hub client
            passes it.
        weights: ``"card"`` downloads, verifies and loads the card's asset; ``"synthetic"``, or the
            network's name, takes the weights that came with this module, trained on generated
            vehicles alone; None gives initial values; a path loads a local file, see
            :func:`multitasknet.read_weights`.
        card: a model card or its path; default is the network's own, that came with this module.
        cache_dir: the root of the download cache, see :func:`multitasknet.fetch_asset`.
        offline: never touch the network.
        progress: draw a progress bar while downloading.
        options: the network's own. For PoseEstNet ``include_top``: if False, no last layer. For
            VehicleReID the class counts ``num_ids``, ``num_colors`` and ``num_types``, as for
            MultiTaskNet:

            - ``variant``: ``rgb``, ``segment``, ``heatmap`` or ``heatmap+segment``; must be the
              checkpoint's. Without weights the default is ``segment``. Of a backbone alone it may
              ask for more than its three channels, which start at N(0, 0.02).
            - ``num_ids``, ``num_colors``, ``num_types``: class counts. One that differs from the
              checkpoint's makes that classifier start fresh, all else is loaded.
            - ``include_top``: if False, no classifiers: the Cell returns the ``[N, 1024]``
              embedding.

    Returns:
        The Cell, in inference mode.

    Raises:
        NotImplementedError: an unknown name.
        TypeError, ValueError: an argument that is not allowed, or contradicts the checkpoint.
        CardError, DownloadError, CheckpointError: as :func:`multitasknet.load_card`,
            :func:`multitasknet.fetch_asset` and :func:`multitasknet.load_weights` raise them.
    """
    network = find_network(name)
    network.check_options(options)
    file = WeightsSource(weights, card, cache_dir, offline, progress).file(network.name)

    from ..runtime import guard_cpu
    from ..weights.load import build

    guard_cpu()
    found = None if file is None else file.read(network)
    return build(network, network.plan(found, options), found)
