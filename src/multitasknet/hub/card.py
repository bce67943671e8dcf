"""Model cards: the YAML front matter that the MindSpore Hub publishes for a model."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from ..errors import MultiTaskNetError
from ..files import PACKAGE
from ..models import DEFAULT_NETWORK, find_network

_FENCE = "---"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_METRIC = re.compile(r"\s*(.*?[A-Za-z])[\s=:]*(\d+(?:\.\d+)?)%?\s*")


class CardError(MultiTaskNetError, ValueError):
    """A card that cannot be used; names the file, the field and the remedy."""


@dataclass(frozen=True)
class Asset:
    """One file of a card: where it is published and what it must hash to.

    Attributes:
        file_format: ``ckpt``, ``mindir``, ...
        url: where the file is published.
        sha256: 64 lower-case hexadecimal digits.
        file_name: the URL's last part, a plain file name.
        folder: the folder below the cache, ``<user-id, lower case>/<model-version>``.
        mirrors: further URLs of the same file, tried in turn.
        side: the checkpoint's side file, with class names and input size; an asset of its own.
    """

    file_format: str
    url: str
    sha256: str
    file_name: str
    folder: PurePosixPath
    mirrors: tuple[str, ...] = ()
    side: Asset | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """The published URL, then the mirrors."""
        return (self.url, *self.mirrors)


@dataclass(frozen=True)
class ModelCard:
    """A Hub model card as its front matter states it."""

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
        matches = (_METRIC.fullmatch(part) for part in self.evaluation.split("|"))
        return {match[1]: float(match[2]) for match in matches if match}


def load_card(path: str | Path) -> ModelCard:
    """Read and check a model card.

    Raises:
        CardError: the file cannot be read, or a field is missing, mistyped or unsafe.
    """
    path = Path(path)
    fields = _Fields(path, _front_matter(path))
    folder = PurePosixPath(fields.path_part("user-id").lower(), fields.path_part("model-version"))
    return ModelCard(
        path=path,
        name=fields.text("model-name"),
        backbone_name=fields.text("backbone-name"),
        module_type=fields.text("module-type"),
        fine_tunable=fields.boolean("fine-tunable"),
        version=fields.text("model-version"),
        train_dataset=fields.text("train-dataset"),
        evaluation=fields.text("evaluation", default=""),
        author=fields.text("author"),
        update_time=fields.date("update-time"),
        repo_link=fields.url("repo-link"),
        user_id=fields.text("user-id"),
        used_for=fields.text("used-for"),
        mindspore_version=fields.text("mindspore-version"),
        assets=_assets(fields, folder),
        license=fields.text("license"),
        summary=fields.text("summary"),
    )


def default_card_path(network: str = DEFAULT_NETWORK) -> Path:
    """A network's card: inside a wheel in the package, else in the checkout's ``assets/``."""
    name = find_network(network).CARD
    in_wheel = PACKAGE / "assets" / name
    return in_wheel if in_wheel.is_file() else PACKAGE.parents[1] / "assets" / name


class TextLoader(yaml.SafeLoader):
    """PyYAML's safe loader without numbers and dates: a version 1.10 must not become 1.1."""


TextLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag.rsplit(":", 1)[-1] not in ("float", "int", "timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _front_matter(path: Path) -> Mapping[str, Any]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(
            f"{path}: the card cannot be read ({error}); give the path of a Hub model card, "
            f"a UTF-8 Markdown file"
        ) from error
    fences = [number for number, line in enumerate(lines) if line.startswith(_FENCE)]
    if len(fences) != 2:
        raise CardError(
            f"{path}: expected the front matter between exactly two lines that start with "
            f"'{_FENCE}', found {len(fences)} such lines; compare it with a card of the Hub"
        )
    try:
        header = yaml.load("\n".join(lines[fences[0] + 1 : fences[1]]), Loader=TextLoader)
    except yaml.YAMLError as error:
        raise CardError(f"{path}: the front matter is not valid YAML: {error}") from error
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

    def get(self, field: str, kind: type, wanted: str) -> Any:
        if self.values.get(field) is None:
            raise self.fail(field, "is missing", f"add a line '{field}: ...' with {wanted}")
        value = self.values[field]
        if not isinstance(value, kind):
            raise self.fail(field, f"is {value!r}", f"expected {wanted}")
        return value

    def text(self, field: str, default: str | None = None) -> str:
        if default is not None and self.values.get(field) is None:
            return default
        return self.get(field, str, "one line of text").strip()

    def boolean(self, field: str) -> bool:
        return self.get(field, bool, "True or False")

    def date(self, field: str) -> datetime.date:
        value = self.text(field)
        try:
            return datetime.date.fromisoformat(value)
        except ValueError as error:
            raise self.fail(field, f"is {value!r}", "expected a date as YYYY-MM-DD") from error

    def url(self, field: str) -> str:
        return self.checked_url(field, self.text(field))

    def checked_url(self, field: str, value: Any) -> str:
        link = value.strip().removeprefix("<").removesuffix(">") if isinstance(value, str) else ""
        parts = urlsplit(link)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise self.fail(field, f"is {value!r}", "expected a URL that starts with https://")
        return link

    def sha256(self, field: str) -> str:
        value = self.text(field).lower()
        if not _SHA256.fullmatch(value):
            raise self.fail(
                field, f"is {value!r}", "expected 64 hexadecimal digits, as sha256sum prints"
            )
        return value

    def path_part(self, field: str) -> str:
        value = self.text(field)
        if not is_plain_name(value):
            raise self.fail(field, f"is {value!r}", "expected a plain name, it becomes a folder")
        return value


def _assets(fields: _Fields, folder: PurePosixPath) -> tuple[Asset, ...]:
    entries = fields.get("asset", list, "a list with at least one ckpt file")
    assets = tuple(
        _asset(fields, entry, index, folder) for index, entry in enumerate(entries, start=1)
    )
    if not any(asset.file_format == "ckpt" for asset in assets):
        raise fields.fail(
            "asset",
            "has no entry with 'file-format: ckpt'",
            "add the checkpoint with its asset-link and asset-sha256",
        )
    return assets


def _asset(fields: _Fields, entry: Any, index: int, folder: PurePosixPath) -> Asset:
    if not isinstance(entry, dict):
        raise fields.fail(
            "asset", f"has {entry!r} as entry {index}", "expected file-format, asset-link, ..."
        )
    part = _Fields(fields.path, entry, prefix=f"asset {index}: ")
    link = part.url("asset-link")
    name = _file_name(part, "asset-link", link)
    mirrors = entry.get("mirrors") or []
    if not isinstance(mirrors, list):
        raise part.fail("mirrors", f"is {mirrors!r}", "expected a list of URLs")
    return Asset(
        file_format=part.text("file-format").lower(),
        url=link,
        sha256=part.sha256("asset-sha256"),
        file_name=name,
        folder=folder,
        mirrors=tuple(part.checked_url("mirrors", mirror) for mirror in mirrors),
        side=_side_asset(part, name, folder),
    )


def _side_asset(fields: _Fields, checkpoint: str, folder: PurePosixPath) -> Asset | None:
    if fields.values.get("side-link") is None:
        return None
    link = fields.url("side-link")
    name = _file_name(fields, "side-link", link)
    wanted = str(PurePosixPath(checkpoint).with_suffix(".json"))
    if name != wanted:
        raise fields.fail("side-link", f"ends in {name!r}", f"expected {wanted!r}")
    return Asset("json", link, fields.sha256("side-sha256"), name, folder)


def _file_name(fields: _Fields, field: str, link: str) -> str:
    name = unquote(urlsplit(link).path.rpartition("/")[2])
    if not is_plain_name(name):
        raise fields.fail(
            field,
            f"ends in {name!r}, which is no plain file name",
            "expected a URL that ends in the file's name, such as .../model.ckpt",
        )
    return name


def is_plain_name(name: str) -> bool:
    return bool(re.fullmatch(r"[^\s./\\:\x00-\x1f][^/\\:\x00-\x1f]*", name))
