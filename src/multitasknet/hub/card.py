"""Model cards: the YAML front matter that the MindSpore Hub publishes for a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import CardError, shown
from ..files import PACKAGE, reading
from ..models import DEFAULT_NETWORK, NETWORKS, find_network

# The two cards that a network may have: the Hub's, and that of weights from generated vehicles.
CARD, SYNTHETIC = "card", "synthetic"
# What names weights without a path; a network's name means its shipped ones.
ENTRIES = (CARD, SYNTHETIC, *NETWORKS)

# What cards call the metrics that an evaluation measures.
PUBLISHED_METRICS = {"Rank-1": "top1acc", "mAP": "map", "color": "coloracc", "type": "typeacc"}
PUBLISHED_METRICS |= {f"PCK@{one}": f"PCK@{one}acc" for one in (0.05, 0.1, 0.2)}
# Of a text without spaces around it: with them, the time would grow with the square of its length.
_METRIC = re.compile(r"(\S.*?[A-Za-z]|[A-Za-z])[\s=:]*(\d+(?:\.\d+)?)%?")
# PyYAML reads 100 kB in a second.
_MOST_CHARACTERS = 1 << 14
_LIKE_THE_HUBS = "compare it with a card of the Hub"
# Of files and folders, and short enough for any file system: no path, and not hidden.
_NAME = r"\w[^/\\:\x00-\x1f]{0,127}"
# Of fields' texts: a regular expression, and in words what it matches.
_LINE = (r".+", "one line of text")
_FOLDER = (_NAME, "a plain name of at most 128 characters, it becomes a folder")
_SHA256 = ("[0-9a-fA-F]{64}", "64 hexadecimal digits, as sha256sum prints")
_URL = (
    r"""(?ai)<?https?://[\w.-]+(:\d+)?(/[^\s<>"'\\^`{|}\x00-\x1f]*)?>?""",
    "a URL that starts with https://",
)
# What the Hub client requires, and what may be missing.
_REQUIRED = {
    **dict.fromkeys(("model-name", "backbone-name", "module-type", "author"), _LINE),
    **dict.fromkeys(("update-time", "used-for", "mindspore-version"), _LINE),
    **dict.fromkeys(("license", "summary"), _LINE),
    **dict.fromkeys(("user-id", "model-version"), _FOLDER),
    "fine-tunable": ("(?i)true|false|yes|no", "True or False"),
    "repo-link": _URL,
}
_OPTIONAL = {"train-dataset": _LINE, "evaluation": _LINE}
FIELDS = (*_REQUIRED, *_OPTIONAL)
_FORMS = {
    **_REQUIRED,
    **_OPTIONAL,
    **dict.fromkeys(("asset-link", "side-link", "mirrors"), _URL),
    **dict.fromkeys(("asset-sha256", "side-sha256"), _SHA256),
    "asset-size": ("[0-9]{1,15}", "a number of bytes"),
}


@dataclass(frozen=True)
class Asset:
    """A checkpoint, or its sidecar: where it is published and what it must hash to.

    Attributes:
        url: where the file is published.
        sha256: 64 lower-case hexadecimal digits.
        file_name: its name on this machine.
        folder: its folder below the cache, ``<user-id, lower case>/<model-version>``.
        mirrors: further URLs of the same file, tried in turn.
        size: bytes, as the card states; None if it does not.
        beside: the card's folder, if the checkpoint is there with all that belongs to it.
        side: a checkpoint's sidecar, with class names and input size.
    """

    url: str
    sha256: str
    file_name: str
    folder: PurePosixPath
    mirrors: tuple[str, ...] = ()
    size: int | None = None
    beside: Path | None = None
    side: Asset | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """The published URL, then the mirrors."""
        return (self.url, *self.mirrors)


@dataclass(frozen=True)
class ModelCard:
    """A Hub model card.

    Attributes:
        path: the Markdown file.
        fields: its front matter by the Hub's names, such as ``model-version``; all values are text.
        asset: the checkpoint; the last of several, as the Hub client chooses.
    """

    path: Path
    fields: Mapping[str, Any]
    asset: Asset

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.fields["model-name"])

    @property
    def network(self) -> str:
        """The name that the Hub client passes to ``create_network``."""
        return self.name.lower()

    @property
    def repo_link(self) -> str:
        """The URL of the module's code."""
        return str(self.fields["repo-link"])

    @property
    def code_name(self) -> str:
        """The name of the code's folder, as the Hub client takes it from the URL."""
        return self.repo_link.rstrip("/").rpartition("/")[2]

    @property
    def uid(self) -> str:
        """What ``mindspore_hub.load`` takes, such as ``mindspore/1.7/multitasknet_veri``."""
        return str(self.asset.folder / self.path.stem)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics in ``evaluation``: name to value, in percent."""
        parts = str(self.fields.get("evaluation", "")).split("|")
        matches = (_METRIC.fullmatch(part.strip()) for part in parts)
        return {match[1]: float(match[2]) for match in matches if match}


def load_card(path: str | Path) -> ModelCard:
    """Read a model card; CardError if that fails, or a field is missing, mistyped or unsafe."""
    path = Path(path)
    remedy = "give the path of a Hub model card, a UTF-8 Markdown file"
    with reading(path, CardError, "the card cannot be read", remedy):
        text = path.read_text(encoding="utf-8-sig")
    return parse_card(path, text)


def parse_card(path: Path, text: str) -> ModelCard:
    """A card from its text, where ``path`` is the file that has it or will; errors as above."""
    fields = _front_matter(path, text)
    for field in FIELDS:
        if field in _REQUIRED or field in fields:
            fields[field] = _text(fields, field, f"{path}: field '")
    folder = PurePosixPath(fields["user-id"].lower(), fields["model-version"])
    card = ModelCard(path, fields, _asset(path, fields.get("asset"), folder))
    end = card.code_name
    if not re.fullmatch(_NAME, end):
        raise CardError(
            f"{path}: the end of field 'repo-link' is {shown(end)}; expected {_FOLDER[1]}"
        )
    return card


def assets_folder() -> Path:
    """Cards and shipped weights: inside a wheel in the package, else the checkout's ``assets/``."""
    in_wheel = PACKAGE / "assets"
    return in_wheel if in_wheel.is_dir() else PACKAGE.parents[1] / "assets"


def default_card_path(network: str = DEFAULT_NETWORK, entry: str = CARD) -> Path:
    """Where the card of a network's entry is, if it came with this module."""
    name = find_network(network).card if entry == CARD else f"{network.lower()}_{entry}.md"
    return assets_folder() / name


def shipped_networks(networks: Iterable[str] = NETWORKS) -> tuple[str, ...]:
    """Those of these networks whose weights came with this module."""
    return tuple(name for name in networks if default_card_path(name, SYNTHETIC).is_file())


def own_card(networks: Sequence[str], entry: str = CARD) -> ModelCard:
    """The card that came with this module, of the first of these networks that has one.

    CardError if none has, or it is broken.
    """
    for path in (default_card_path(name, entry) for name in networks):
        if path.is_file():
            return load_card(path)
    raise CardError(
        f"no weights of {' or '.join(map(repr, networks))} are shipped with this version; there "
        f"are synthetic ones of {', '.join(shipped_networks()) or 'no network'}. Give a file of "
        f"weights, or None ('none' in a command) for random ones"
    )


def _front_matter(path: Path, text: str) -> dict[str, Any]:
    """The fields between the card's two fences, as text: a version 1.10 must not become 1.1."""
    import yaml  # which takes longer to import than a picture to predict

    parts = re.split("(?m)^---.*$", text)
    if len(parts) != 3:
        raise CardError(
            f"{path}: expected the front matter between exactly two lines that start with '---', "
            f"found {len(parts) - 1} such lines; {_LIKE_THE_HUBS}"
        )
    with reading(path, CardError, "the front matter is not valid YAML", _LIKE_THE_HUBS):
        if len(parts[1]) > _MOST_CHARACTERS:
            raise ValueError(f"it has more than {_MOST_CHARACTERS:,} characters")
        fields = yaml.load(parts[1], Loader=yaml.BaseLoader)
    if not isinstance(fields, dict):
        raise CardError(f"{path}: the front matter is empty or not a list of 'field: value' lines")
    return fields


def _asset(path: Path, entries: object, folder: PurePosixPath) -> Asset:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CardError(f"{path}: field 'asset' is no list of entries; {_LIKE_THE_HUBS}")
    numbers = [n for n, entry in enumerate(entries) if entry.get("file-format") == "ckpt"]
    if not numbers:
        raise CardError(
            f"{path}: field 'asset' has no entry with 'file-format: ckpt'; {_LIKE_THE_HUBS}"
        )
    entry, where = entries[numbers[-1]], f"{path}: field 'asset {numbers[-1] + 1}: "
    mirrors = entry.get("mirrors") or []
    if not isinstance(mirrors, list):
        raise CardError(f"{where}mirrors' is {shown(mirrors)}; expected a list of URLs")
    link = _text(entry, "asset-link", where)
    name = unquote(urlsplit(link).path.rpartition("/")[2])
    if not re.fullmatch(_NAME, name):
        raise CardError(
            f"{where}asset-link' ends in {shown(name)}, which is no plain file name of at most 128 "
            f"characters; expected a URL that ends in such a name: .../model.ckpt"
        )
    side_name = PurePosixPath(name).with_suffix(".json").name if "side-link" in entry else ""
    here = path.resolve().parent
    beside = here if all((here / one).is_file() for one in (name, side_name or name)) else None
    asset = Asset(
        link,
        _text(entry, "asset-sha256", where).lower(),
        name,
        folder,
        mirrors=tuple(_text({"mirrors": url}, "mirrors", where) for url in mirrors),
        size=int(_text(entry, "asset-size", where)) if "asset-size" in entry else None,
        beside=beside,
    )
    if not side_name:
        return asset
    link, sha256 = (_text(entry, f"side-{one}", where) for one in ("link", "sha256"))
    return replace(asset, side=Asset(link, sha256.lower(), side_name, folder, beside=beside))


def _text(values: Mapping[str, Any], field: str, where: str) -> str:
    """A field's text, without what is around it; CardError that begins with ``where``."""
    value, (pattern, expected) = values.get(field), _FORMS[field]
    if not value:
        raise CardError(f"{where}{field}' is missing; add a line '{field}: ...' with {expected}")
    if not isinstance(value, str):
        raise CardError(f"{where}{field}' is a {type(value).__name__}; expected {expected}")
    text = value.strip()
    if not re.fullmatch(pattern, text):
        raise CardError(f"{where}{field}' is {shown(value)}; expected {expected}")
    return text.strip("<>") if pattern is _URL[0] else text
