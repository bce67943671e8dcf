"""Model cards: the YAML front matter that the MindSpore Hub publishes for a model."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from ..errors import CardError
from ..files import PACKAGE, reading
from ..models import DEFAULT_NETWORK, NETWORKS, find_network

# The two cards that a network may have: the Hub's, and that of weights from generated vehicles.
CARD, SYNTHETIC = "card", "synthetic"
ENTRIES = (CARD, SYNTHETIC)

FENCE = "---"
_PLAIN_NAME = r"[^\s./\\:\x00-\x1f][^/\\:\x00-\x1f]*"
# Regular expressions, and in words what they match.
_SHA256 = ("[0-9a-fA-F]{64}", "64 hexadecimal digits, as sha256sum prints")
_URL = (r"""(?i)<?https?://[\w\[][^\s<>"'\\^`{|}\x00-\x1f]*>?""", "a URL that starts with https://")
_FOLDER = (_PLAIN_NAME, "a plain name, it becomes a folder")
# What cards call the metrics that an evaluation measures.
PUBLISHED_METRICS = {"Rank-1": "top1acc", "mAP": "map", "color": "coloracc", "type": "typeacc"}
PUBLISHED_METRICS |= {f"PCK@{one}": f"PCK@{one}acc" for one in (0.05, 0.1, 0.2)}
# Of a text without spaces around it: with them, the time would grow with the square of its length.
_METRIC = re.compile(r"(\S.*?[A-Za-z]|[A-Za-z])[\s=:]*(\d+(?:\.\d+)?)%?")
# Of a card, and of its front matter, of which PyYAML reads 100 kB in a second.
_MOST_BYTES, _MOST_YAML = 1 << 20, 1 << 14


@dataclass(frozen=True)
class Asset:
    """One file of a card: where it is published and what it must hash to.

    Attributes:
        file_format: ``ckpt``, ``mindir``, ...
        url: where the file is published.
        sha256: 64 lower-case hexadecimal digits.
        folder: the folder below the cache, ``<user-id, lower case>/<model-version>``.
        mirrors: further URLs of the same file, tried in turn.
        side: the checkpoint's side file, with class names and input size; an asset itself.
        size: bytes, as the card states; None if it does not.
        beside: a file of that name beside the card; None if there is none.
    """

    file_format: str
    url: str
    sha256: str
    folder: PurePosixPath
    mirrors: tuple[str, ...] = ()
    side: Asset | None = None
    size: int | None = None
    beside: Path | None = None

    @property
    def file_name(self) -> str:
        """The URL's last part; a card whose URL ends in no plain file name is refused."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])

    @property
    def is_shipped(self) -> bool:
        """Whether the file came with this module."""
        return self.beside is not None and self.beside.parent == assets_folder()

    @property
    def urls(self) -> tuple[str, ...]:
        """The published URL, then the mirrors."""
        return (self.url, *self.mirrors)


@dataclass(frozen=True)
class ModelCard:
    """A Hub model card as its front matter states it.

    ``train_dataset`` and ``evaluation`` are optional there, and empty where they are missing.
    """

    path: Path
    name: str
    backbone_name: str
    module_type: str
    fine_tunable: bool
    version: str
    train_dataset: str
    evaluation: str
    author: str
    update_time: datetime.date
    repo_link: str
    user_id: str
    used_for: str
    mindspore_version: str
    assets: tuple[Asset, ...]
    license: str
    summary: str

    @property
    def asset(self) -> Asset:
        """The checkpoint; the last of several, as the Hub client chooses."""
        return [asset for asset in self.assets if asset.file_format == "ckpt"][-1]

    @property
    def network(self) -> str:
        """The name that the Hub client passes to ``create_network``."""
        return self.name.lower()

    @property
    def folder(self) -> PurePosixPath:
        """The card's folder below a hub folder, such as ``mindspore/1.7``."""
        return PurePosixPath(self.user_id.lower(), self.version)

    @property
    def uid(self) -> str:
        """What ``mindspore_hub.load`` takes, such as ``mindspore/1.7/multitasknet_veri``."""
        return str(self.folder / self.path.stem)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics in ``evaluation``: name to value, in percent."""
        matches = (_METRIC.fullmatch(part.strip()) for part in self.evaluation.split("|"))
        return {match[1]: float(match[2]) for match in matches if match}


def load_card(path: str | Path) -> ModelCard:
    """Read and check a model card.

    Raises:
        CardError: the file cannot be read, or a field is missing, mistyped or unsafe.
    """
    path = Path(path)
    fields = _Fields(path, read_front_matter(path))
    user, version = (fields.text(field, *_FOLDER) for field in ("user-id", "model-version"))
    folder = PurePosixPath(user.lower(), version)
    return ModelCard(
        path=path,
        name=fields.text("model-name"),
        backbone_name=fields.text("backbone-name"),
        module_type=fields.text("module-type"),
        fine_tunable=fields.get("fine-tunable", bool, "True or False"),
        version=version,
        train_dataset=fields.optional("train-dataset"),
        evaluation=fields.optional("evaluation"),
        author=fields.text("author"),
        update_time=fields.date("update-time"),
        repo_link=fields.url("repo-link"),
        user_id=user,
        used_for=fields.text("used-for"),
        mindspore_version=fields.text("mindspore-version"),
        assets=_assets(fields, folder),
        license=fields.text("license"),
        summary=fields.text("summary"),
    )


def assets_folder() -> Path:
    """Cards and shipped weights: inside a wheel in the package, else the checkout's ``assets/``."""
    in_wheel = PACKAGE / "assets"
    return in_wheel if in_wheel.is_dir() else PACKAGE.parents[1] / "assets"


def default_card_path(network: str = DEFAULT_NETWORK, entry: str = CARD) -> Path:
    """Where the card of a network's entry is, if it came with this module."""
    definition = find_network(network)
    name = definition.card if entry == CARD else f"{definition.name}_{entry}.md"
    return assets_folder() / name


def own_card_paths(networks: Iterable[str]) -> tuple[Path, ...]:
    """The cards of these networks that came with this module, each once."""
    paths = (default_card_path(name, entry) for name in networks for entry in ENTRIES)
    return tuple(dict.fromkeys(path for path in paths if path.is_file()))


def shipped_networks() -> tuple[str, ...]:
    """The networks whose weights came with this module."""
    return tuple(name for name in NETWORKS if default_card_path(name, SYNTHETIC).is_file())


def own_card(network: str | Sequence[str] = DEFAULT_NETWORK, entry: str = CARD) -> ModelCard:
    """The card that came with this module.

    Args:
        network: a network's name; or several, of which the first that has such a card is taken.
        entry: ``card`` or ``synthetic``.

    Raises:
        CardError: there is none, or it is broken.
    """
    names = (network,) if isinstance(network, str) else tuple(network)
    for name in names:
        path = default_card_path(name, entry)
        if path.is_file():
            return load_card(path)
    raise CardError(
        f"no weights of {' or '.join(map(repr, names))} are shipped with this version; there are "
        f"synthetic ones of {', '.join(shipped_networks()) or 'no network'}. Give a file of "
        f"weights, or None ('none' in a command) for random ones"
    )


class _TextLoader(yaml.SafeLoader):
    """PyYAML's safe loader without numbers and dates: a version 1.10 must not become 1.1.

    Nor with aliases, of which a few lines can make billions of values.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it has an alias (*name); write the value out")
        return super().compose_node(parent, index)


_TextLoader.yaml_implicit_resolvers = {
    first: [kind for kind in kinds if not kind[0].endswith((":float", ":int", ":timestamp"))]
    for first, kinds in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_front_matter(path: Path) -> dict[str, Any]:
    """The fields between the card's two fences, unchecked; CardError if there are none."""
    remedy = "give the path of a Hub model card, a UTF-8 Markdown file"
    with reading(path, CardError, "the card cannot be read", remedy), path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"it is larger than {_MOST_BYTES:,} bytes")
        lines = content.decode("utf-8-sig").splitlines()
    fences = [number for number, line in enumerate(lines) if line.startswith(FENCE)]
    if len(fences) != 2:
        raise CardError(
            f"{path}: expected the front matter between exactly two lines that start with "
            f"'{FENCE}', found {len(fences)} such lines; compare it with a card of the Hub"
        )
    text = "\n".join(lines[fences[0] + 1 : fences[1]])
    remedy = "compare it with a card of the Hub"
    with reading(path, CardError, "the front matter is not valid YAML", remedy):
        if len(text) > _MOST_YAML:
            raise ValueError(f"it has {len(text):,} characters; expected at most {_MOST_YAML:,}")
        header = yaml.load(text, Loader=_TextLoader)
    if not isinstance(header, dict):
        raise CardError(f"{path}: the front matter is empty or not a list of 'field: value' lines")
    return header


@dataclass(frozen=True)
class _Fields:
    """Typed access to a mapping of the front matter; every failure names file and field."""

    path: Path
    values: Mapping[str, Any]
    prefix: str = ""

    def fail(self, field: str, problem: str, remedy: str) -> CardError:
        return CardError(f"{self.path}: field '{self.prefix}{field}' {problem}; {remedy}")

    def has(self, field: str) -> bool:
        return self.values.get(field) is not None

    def get(self, field: str, kind: type, wanted: str) -> Any:
        value = self.values.get(field)
        if value is None:
            raise self.fail(field, "is missing", f"add a line '{field}: ...' with {wanted}")
        if not isinstance(value, kind):
            raise self.fail(field, f"is {value!r:.100}", f"expected {wanted}")
        return value

    def text(self, field: str, form: str = "(?s).*", wanted: str = "one line of text") -> str:
        """A text, which must match the regular expression ``form``."""
        value = self.get(field, str, "one line of text").strip()
        if not re.fullmatch(form, value):
            raise self.fail(field, f"is {value!r:.100}", f"expected {wanted}")
        return value

    def optional(self, field: str) -> str:
        return self.text(field) if self.has(field) else ""

    def date(self, field: str) -> datetime.date:
        value = self.text(field)
        try:
            # The Hub's cards have 2023-2-17 as well, which fromisoformat refuses.
            return datetime.datetime.strptime(value, "%Y-%m-%d").date()
        except ValueError as error:
            raise self.fail(field, f"is {value!r:.100}", "expected a date as YYYY-MM-DD") from error

    def url(self, field: str) -> str:
        url = self.text(field, *_URL).removeprefix("<").removesuffix(">")
        try:
            urlsplit(url)
        except ValueError as error:
            raise self.fail(field, f"is {url!r:.100} ({error})", f"expected {_URL[1]}") from error
        return url


def _assets(fields: _Fields, folder: PurePosixPath) -> tuple[Asset, ...]:
    assets = []
    entries = fields.get("asset", list, "a list with at least one ckpt file")
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            problem = f"has {entry!r:.100} as entry {number}"
            raise fields.fail("asset", problem, "expected file-format, asset-link, ...")
        assets.append(_asset(_Fields(fields.path, entry, f"asset {number}: "), folder))
    if not any(asset.file_format == "ckpt" for asset in assets):
        remedy = "add the checkpoint with its asset-link and asset-sha256"
        raise fields.fail("asset", "has no entry with 'file-format: ckpt'", remedy)
    return tuple(assets)


def _asset(fields: _Fields, folder: PurePosixPath) -> Asset:
    asset = _file(fields, "asset", fields.text("file-format").lower(), folder)
    mirrors = fields.values.get("mirrors") or []
    if not isinstance(mirrors, list):
        raise fields.fail("mirrors", f"is {mirrors!r:.100}", "expected a list of URLs")
    urls = tuple(replace(fields, values={"mirrors": url}).url("mirrors") for url in mirrors)
    asset = replace(asset, mirrors=urls)
    if not fields.has("side-link"):
        return asset
    side = _file(fields, "side", "json", folder)
    if not (asset.beside and side.beside):  # both of them, or they would lie apart
        asset, side = replace(asset, beside=None), replace(side, beside=None)
    wanted = PurePosixPath(asset.file_name).with_suffix(".json").name
    if side.file_name != wanted:
        raise fields.fail("side-link", f"ends in {side.file_name!r}", f"expected {wanted!r}")
    return replace(asset, side=side)


def _file(fields: _Fields, kind: str, file_format: str, folder: PurePosixPath) -> Asset:
    """What ``<kind>-link``, ``<kind>-sha256`` and ``<kind>-size`` state."""
    link, sha256 = fields.url(f"{kind}-link"), fields.text(f"{kind}-sha256", *_SHA256)
    size = fields.optional(f"{kind}-size")
    if size and not re.fullmatch("[0-9]{1,15}", size):
        raise fields.fail(f"{kind}-size", f"is {size!r:.100}", "expected a number of bytes")
    asset = Asset(file_format, link, sha256.lower(), folder, size=int(size) if size else None)
    if not is_plain_name(asset.file_name):
        raise fields.fail(
            f"{kind}-link",
            f"ends in {asset.file_name!r}, which is no plain file name",
            "expected a URL that ends in the file's name, such as .../model.ckpt",
        )
    beside = fields.path.resolve().with_name(asset.file_name)
    return replace(asset, beside=beside if beside.is_file() else None)


def is_plain_name(name: str) -> bool:
    return bool(re.fullmatch(_PLAIN_NAME, name))
