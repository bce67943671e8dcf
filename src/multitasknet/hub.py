"""``create_network``: what the MindSpore Hub client calls, and users too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .card import ModelCard, default_card_path, load_card
from .download import fetch_asset
from .errors import MultiTaskNetError
from .labels import COLORS, TYPES
from .spec import ATTRIBUTE_SIZE, NetworkSpec, Variant, class_names
from .weights.layouts import HEAD

if TYPE_CHECKING:
    from .network import MultiTaskNet
    from .weights.reading import Weights

_NAME = "multitasknet"
_CARD = "card"


class VariantError(MultiTaskNetError, ValueError):
    """The variant that was asked for is not the checkpoint's."""


def create_network(
    name: str = _NAME,
    *,
    weights: str | Path | None = _CARD,
    card: str | Path | ModelCard | None = None,
    variant: str | None = None,
    num_ids: int | None = None,
    num_colors: int | None = None,
    num_types: int | None = None,
    include_top: bool = True,
    cache_dir: str | Path | None = None,
    offline: bool = False,
    progress: bool = True,
) -> MultiTaskNet:
    """Create the network; all its weights are trainable.

    The architecture (input variant, keypoint awareness, single or multi task, class counts) comes
    from the checkpoint. The Cell's ``spec`` says what it is, its ``load_report`` what was loaded.
    A file that holds a trunk alone, such as torchvision's, gets a fresh head of the default
    architecture; ``variant`` may then ask for more than its three channels, which start at
    N(0, 0.02).

    Args:
        name: ``multitasknet``; the Hub client passes it.
        weights: ``"card"`` downloads, verifies and loads the card's asset; None initialises
            afresh; a path loads a local file, see :func:`multitasknet.read_weights`.
        card: a model card or its path; default is the card that came with this module.
        variant: ``rgb``, ``segment``, ``heatmap`` or ``heatmap+segment``; must be the
            checkpoint's. Without weights the default is ``segment``.
        num_ids, num_colors, num_types: class counts. One that differs from the checkpoint's
            makes that classifier start fresh, all else is loaded.
        include_top: if False, no classifiers: the Cell returns the ``[N, 1024]`` embedding.
        cache_dir: the root of the download cache, see :func:`multitasknet.fetch_asset`.
        offline: never touch the network.
        progress: draw a progress bar while downloading.

    Returns:
        A :class:`multitasknet.MultiTaskNet`, in inference mode.

    Raises:
        NotImplementedError: an unknown name.
        TypeError, ValueError: an argument that is not allowed, or contradicts the checkpoint.
        CardError, DownloadError, CheckpointError: as :func:`multitasknet.load_card`,
            :func:`multitasknet.fetch_asset` and :func:`multitasknet.load_weights` raise them.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, not {type(name).__name__}: {name!r}")
    if name.lower() != _NAME:
        raise NotImplementedError(f"{name} is not implemented in the repo")
    wanted = None if variant is None else Variant.parse(variant)
    counts = _class_counts(num_ids=num_ids, num_colors=num_colors, num_types=num_types)
    _check_flags(include_top=include_top, offline=offline, progress=progress)
    if counts and not include_top:
        raise ValueError(
            f"{next(iter(counts))} with include_top=False: there are no classifiers then; "
            f"leave one of the two out"
        )
    path = weights_path(weights, card, cache_dir, offline, progress)

    from .runtime import guard_cpu

    guard_cpu()
    if path is None:
        spec = replace(_with_counts(NetworkSpec(), counts), variant=wanted or Variant.SEGMENT)
        return _build(replace(spec, include_top=include_top))

    from .weights.loading import widen_stem
    from .weights.reading import read_weights

    found = read_weights(path)
    if found.is_trunk and found.spec.variant is Variant.RGB and wanted is not None:
        found = widen_stem(found, wanted.channels)
    spec = found.spec
    if wanted not in (None, spec.variant):
        raise VariantError(
            f"variant is {wanted.value!r}, but {path} holds the variant {spec.variant.value!r}; "
            f"leave variant out, or give weights of that variant"
        )
    if not include_top:
        return _build(replace(spec, include_top=False), found)
    if found.is_trunk:
        head = NetworkSpec(variant=spec.variant, stem_pool=spec.stem_pool)
        return _build(_with_counts(head, counts), found, fresh=HEAD)
    return _build_with_top(spec, counts, found)


def _build_with_top(spec: NetworkSpec, counts: dict[str, int], found: Weights) -> MultiTaskNet:
    source = found.path
    if not spec.multi_task:
        extra = [name for name in counts if name != "num_ids"]
        if extra:
            raise ValueError(f"{extra[0]} is given, but {source} is a single-task network")
    if not spec.include_top and "num_ids" not in counts:
        raise ValueError(
            f"{source} holds no classifiers; give num_ids for a fresh one, or include_top=False"
        )
    asked = replace(_with_counts(spec, counts), include_top=True)
    return _build(asked, found, fresh=_fresh_cells(asked, found.shapes))


def _fresh_cells(spec: NetworkSpec, shapes: dict[str, tuple[int, ...]]) -> tuple[str, ...]:
    """The cells of the top that the file has not, or has with another number of classes."""
    rows = {"classifier_vid": spec.num_ids}
    if spec.multi_task:
        rows |= {"fc_vcolor": ATTRIBUTE_SIZE, "classifier_vcolor": spec.num_colors}
        rows |= {"fc_vtype": ATTRIBUTE_SIZE, "classifier_vtype": spec.num_types}
    found = {name.removesuffix(".weight"): shape[0] for name, shape in shapes.items() if shape}
    return tuple(cell for cell, count in rows.items() if found.get(cell) != count)


def _build(
    spec: NetworkSpec, weights: Weights | None = None, fresh: tuple[str, ...] = ()
) -> MultiTaskNet:
    from mindspore.nn.utils import no_init_parameters

    from .network import MultiTaskNet
    from .weights.loading import load_weights

    if weights is None or fresh:
        network = MultiTaskNet(spec)
    else:
        # Initial values would be overwritten at once; not drawing them halves the time.
        with no_init_parameters():
            network = MultiTaskNet(spec)
    network.set_train(False)
    if weights is not None:
        load_weights(network, weights, fresh=fresh)
    return network


def _with_counts(spec: NetworkSpec, counts: dict[str, int]) -> NetworkSpec:
    return replace(
        spec,
        num_ids=counts.get("num_ids", spec.num_ids),
        color_names=_names(counts.get("num_colors"), spec.color_names, COLORS, "color"),
        type_names=_names(counts.get("num_types"), spec.type_names, TYPES, "type"),
    )


def _names(
    count: int | None, current: tuple[str, ...], published: tuple[str, ...], kind: str
) -> tuple[str, ...]:
    return current if count in (None, len(current)) else class_names(count, published, kind)


def weights_path(
    weights: str | Path | None,
    card: str | Path | ModelCard | None,
    cache_dir: str | Path | None,
    offline: bool,
    progress: bool,
) -> Path | None:
    """The file that these arguments of :func:`create_network` mean, downloaded if need be."""
    if weights is None:
        return None
    if not isinstance(weights, str | Path):
        raise TypeError(
            f"weights must be 'card', a path or None, not {type(weights).__name__}: {weights!r}"
        )
    if weights != _CARD:
        return Path(weights).expanduser()
    if card is not None and not isinstance(card, str | Path | ModelCard):
        raise TypeError(f"card must be a path or a ModelCard, not {type(card).__name__}: {card!r}")
    if not isinstance(card, ModelCard):
        card = load_card(default_card_path() if card is None else card)
    return fetch_asset(card, cache_dir, offline, progress)


def _class_counts(**counts: int | None) -> dict[str, int]:
    given = {name: count for name, count in counts.items() if count is not None}
    for name, count in given.items():
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"{name} must be an integer, not {type(count).__name__}: {count!r}")
        if count < 1:
            raise ValueError(f"{name} is {count}; expected at least 1")
    return given


def _check_flags(**flags: bool) -> None:
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, not {value!r}")
