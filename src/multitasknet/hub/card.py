"""Model cards: the YAML front matter that the MindSpore Hub publishes for a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
_REQUIRED = (
    *("model-name", "backbone-name", "module-type", "fine-tunable", "model-version", "author"),
    *("update-time", "repo-link", "user-id", "used-for", "mindspore-version", "license", "summary"),
)
FIELDS = (*_REQUIRED, "train-dataset", "evaluation")
_FORMS = {
    **dict.fromkeys(FIELDS, _LINE),
    **dict.fromkeys(("user-id", "model-version"), _FOLDER),
    **dict.fromkeys(("repo-link", "asset-link", "side-link", "mirrors"), _URL),
    **dict.fromkeys(("asset-sha256", "side-sha256"), _SHA256),
    "fine-tunable": ("(?i)true|false|yes|no", "True or False"),
    "asset-size": ("[0-9]{1,15}", "a number of bytes"),
}


@dataclass(frozen=True)
class Asset:
    """A checkpoint, or its sidecar: where it is published and what it must hash to.

    Attributes:
        sha256: 64 lower-case hexadecimal digits.
        file_name: its name on this machine.
        folder: its folder below the cache, ``<user-id, lower case>/<model-version>``.
        mirrors: further URLs of the same file, tried in turn.
        size: bytes, as the card states; None if it does not.
        beside: the card's folder, if the checkpoint is there with all that belongs to it.
        side: a checkpoint's sidecar.
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
    def code_name(self) -> str:
        """The name of the code's folder, as the Hub client takes it from ``repo-link``."""
        return str(self.fields["repo-link"]).rstrip("/").rpartition("/")[2]

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
            fields[field] = _text(path, fields, field)
    card = ModelCard(path, fields, _asset(path, fields))
    _file_name(path, "repo-link", card.code_name)
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
        f"are synthetic ones of {', '.join(shipped_networks()) or 'no network'}. Give a file"
    )


def _front_matter(path: Path, text: str) -> dict[str, Any]:
    """The fields between the card's two fences, as text: a version 1.10 must not become 1.1."""
    import yaml  # which takes longer to import than a picture to predict

    parts = re.split("(?m)^---.*$", text)
    with reading(path, CardError, "the front matter cannot be read as YAML", _LIKE_THE_HUBS):
        if len(parts) != 3:
            raise ValueError(f"{len(parts) - 1} lines start with '---', and not two")
        if len(parts[1]) > _MOST_CHARACTERS:
            raise ValueError(f"it has more than {_MOST_CHARACTERS:,} characters")
        fields = yaml.load(parts[1], Loader=yaml.BaseLoader)
        if not isinstance(fields, dict):
            raise ValueError("it has no 'field: value' lines")
    return fields


def _asset(path: Path, fields: Mapping[str, Any]) -> Asset:
    listed = fields.get("asset")
    entries = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    checkpoints = [one for one in entries if one.get("file-format") == "ckpt"]
    if not checkpoints:
        raise CardError(
            f"{path}: field 'asset' has no entry with 'file-format: ckpt'; {_LIKE_THE_HUBS}"
        )
    entry = checkpoints[-1]
    folder = PurePosixPath(fields["user-id"].lower(), fields["model-version"])
    here = path.resolve().parent
    link = _text(path, entry, "asset-link")
    name = _file_name(path, "asset-link", unquote(urlsplit(link).path.rpartition("/")[2]))
    beside, side = here if (here / name).is_file() else None, None
    if "side-link" in entry:
        side_name = PurePosixPath(name).with_suffix(".json").name
        beside = beside if (here / side_name).is_file() else None
        url, sha256 = (_text(path, entry, f"side-{one}") for one in ("link", "sha256"))
        side = Asset(url, sha256.lower(), side_name, folder, beside=beside)
    mirrors = entry.get("mirrors") or []
    return Asset(
        link,
        _text(path, entry, "asset-sha256").lower(),
        name,
        folder,
        mirrors=tuple(_text(path, {"mirrors": url}, "mirrors") for url in mirrors),
        size=int(_text(path, entry, "asset-size")) if "asset-size" in entry else None,
        beside=beside,
        side=side,
    )


def _file_name(path: Path, field: str, name: str) -> str:
    """What a URL ends in; CardError if no file or folder could be called that."""
    if not re.fullmatch(_NAME, name):
        raise CardError(
            f"{path}: field '{field}' ends in {shown(name)}, which is no plain file name of at "
            f"most 128 characters"
        )
    return name


def _text(path: Path, values: Mapping[str, Any], field: str) -> str:
    """A field's text, without what is around it; CardError names card and field."""
    value, (pattern, expected) = values.get(field), _FORMS[field]
    where = f"{path}: field '{field}' is"
    if not value:
        raise CardError(f"{where} missing; add a line '{field}: ...' with {expected}")
    if not isinstance(value, str):  # whose aliases may make it too long to show
        raise CardError(f"{where} a {type(value).__name__}; expected {expected}")
    text = value.strip()
    if not re.fullmatch(pattern, text):
        raise CardError(f"{where} {shown(value)}; expected {expected}")
    return text.strip("<>") if pattern is _URL[0] else text
