"""What training and PyTorch add to the names of parameters, which is the same in every network."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Arrays = Mapping[str, np.ndarray]

# Optimizers keep their rates under these names, one value or one per step; the rest is scalars.
_RATES = re.compile(r"(?:learning_rate|weight_decay)(?:_group_\d+)?")

_PUBLISHED_LEAVES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_TORCH_LEAVES = {published: torch for torch, published in _PUBLISHED_LEAVES.items()}
_COUNTER = "num_batches_tracked"


def split_entries(
    entries: Arrays, mark: str, roots: Sequence[str]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """A network's own entries of a file, and the names of the others.

    A Cell around the network puts a prefix before its parameters' names (``network.``,
    ``backbone.``), and an optimizer keeps tensors under the names of what it trains
    (``moment1.network.base.conv0.weight``). So the shortest prefix before ``mark`` is the
    network's, and it is taken off.

    ``mark`` is a regular expression for the beginning of names that only this network has,
    ``roots`` are its outermost cells. ValueError if there are several such networks, neither of
    which is the other's optimizer state.
    """
    searches = map(re.compile(rf"(?:^|(?<=\.))(?:{mark})").search, entries)
    prefixes = {found.string[: found.start()] for found in searches if found}
    if not prefixes:
        return dict(entries), ()
    prefix = min(prefixes, key=len)
    others = [one for one in prefixes if not f".{one}".endswith(f".{prefix}")]
    if others and prefix:
        names = " and ".join(map(repr, sorted([prefix, *others])))
        raise ValueError(f"it holds several networks, under {names}; save one of them alone")
    slot = re.compile(rf"\w+[._]{re.escape(prefix)}(?:{'|'.join(roots)})\.")

    def is_foreign(name: str) -> bool:
        if prefix:
            return not name.startswith(prefix)
        is_scalar = entries[name].size <= 1 and name.partition(".")[0] not in roots
        return is_scalar or bool(_RATES.fullmatch(name) or slot.match(name))

    foreign = tuple(filter(is_foreign, entries))
    own = {name[len(prefix) :]: entries[name] for name in entries if name not in set(foreign)}
    return own, foreign


def is_torch(names: Arrays) -> bool:
    """Whether batch norms are named as in PyTorch."""
    return any(name.endswith(".running_mean") for name in names)


def torch_entries(arrays: Arrays, rename: Callable[[str], str]) -> dict[str, np.ndarray]:
    """Arrays by published name as a PyTorch network has them.

    ``rename`` brings all of a name but a norm's last part into PyTorch's form; the counters that
    PyTorch's norms have start at 0.
    """
    entries = {}
    for name, array in arrays.items():
        stem, _, leaf = rename(name).rpartition(".")
        entries[f"{stem}.{_TORCH_LEAVES.get(leaf, leaf)}"] = array
        if leaf == "moving_variance":
            entries[f"{stem}.{_COUNTER}"] = np.array(0, np.int64)
    return entries


def published_entries(
    entries: Arrays, rename: Callable[[str], str], useless: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Back from :func:`torch_entries`, ``rename`` the other way round; and the names left out.

    Left out are the norms' counters, and names that begin as the regular expression ``useless``.
    Entries that are not PyTorch's stay as they are. ValueError if two are one parameter.
    """
    if not is_torch(entries):
        return dict(entries), ()
    without = re.compile(rf"(?:{useless})|.*\b{_COUNTER}$")
    arrays, left_out = {}, []
    for name, array in entries.items():
        if without.match(name):
            left_out.append(name)
            continue
        stem, dot, leaf = name.rpartition(".")
        if f"{stem}.running_mean" in entries:
            leaf = _PUBLISHED_LEAVES.get(leaf, leaf)
        published = rename(f"{stem}{dot}{leaf}")
        if published in arrays:
            raise ValueError(f"two of its entries are {published!r}, one of them {name!r}")
        arrays[published] = array
    return arrays, tuple(left_out)
