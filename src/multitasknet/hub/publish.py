"""``write_card``: a Hub model card for a user's own weights."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import yaml

from ..errors import CardError
from ..files import replacing
from ..weights.read import Weights, check_values, read_weights
from ..weights.sidecar import Sidecar, sidecar_path
from .card import (
    FENCE,
    PUBLISHED_METRICS,
    ModelCard,
    default_card_path,
    load_card,
    read_front_matter,
)

_PAGE = """# {name}

{header}
## Introduction

Weights of the network `{network}`, trained on {dataset} at {size} pixels.

{facts}

## Use

```python
import mindspore_hub

network = mindspore_hub.load("{uid}")
```

or, with the module alone, `hub_conf.create_network("{network}", card="{card}")`.
{body}"""

_BEST = "best.ckpt"
# Of the 388 data sets that the Hub client knows, these. A card that names another is refused by
# it, so the card's text names the data set instead.
CLIENT_DATASETS = ("VeRi", "veri", "veir")


def write_card(
    directory: str | Path,
    *,
    url: str,
    name: str | None = None,
    user: str = "MindSpore",
    version: str = "1.0",
    dataset: str = "custom data",
    author: str = "unknown",
    license: str = "Apache2.0",
    repo: str | None = None,
    summary: str | None = None,
    body: str | Path | None = None,
) -> ModelCard:
    """Write the Hub model card of a checkpoint with a sidecar, which the Hub client accepts.

    Args:
        directory: the output folder of :func:`multitasknet.finetune`, whose ``best.ckpt`` is meant,
            or a checkpoint. The card is written beside it.
        url: where checkpoint and sidecar will be published: the folder's URL.
        name, user, version, author, license, repo, summary: fields of the card; name and repo are
            those of the network's published card where they are not given.
        dataset: what the weights were trained on. It is a field of the card if the Hub client knows
            that data set, and is named in the card's text in any case.
        body: a file of Markdown that goes to the card's end.

    Returns:
        The card, read back and checked.

    Raises:
        CardError: no trained weights with a sidecar, or a field that the Hub does not accept.
        CheckpointError: the weights or their sidecar are damaged.
    """
    checkpoint = checkpoint_of(Path(directory))
    side = sidecar_path(checkpoint)
    if not checkpoint.is_file() or not side.is_file():
        raise CardError(
            f"{directory}: there is no {checkpoint.name} with its {side.name}; give the output "
            f"folder of 'multitasknet finetune', or a .ckpt file with its sidecar"
        )
    weights = read_weights(checkpoint)
    check_values(weights)
    sidecar = weights.sidecar
    assert sidecar is not None
    network = weights.network
    own = default_card_path(network.name)
    published = load_card(own if own.is_file() else default_card_path())
    if name is None:
        name = published.name if published.network == network.name else network.name
    texts = {
        "model-name": name,
        "model-version": version,
        "train-dataset": dataset,
        "author": author,
        "user-id": user,
        "license": license,
        "summary": f"{name}, fine-tuned" if summary is None else summary,
    }
    for field, text in texts.items():
        if ":" in text or "\n" in text or not text.strip():
            raise CardError(
                f"{field} is {text!r}; expected one line without a colon, the Hub takes no other"
            )
    measured = [
        f"{theirs}{sidecar.metrics[ours]:.2f}"
        for ours, theirs in PUBLISHED_METRICS.items()
        if ours in sidecar.metrics
    ]
    header = read_front_matter(published.path) | texts
    header |= {
        "evaluation": " | ".join(measured) or "none",
        "update-time": datetime.date.today().isoformat(),
        "repo-link": f"<{repo or published.repo_link}>",
        "mindspore-version": ".".join(_mindspore_version(sidecar).split(".")[:2]),
        "asset": [_asset(weights, url.rstrip("/"))],
    }
    if dataset not in CLIENT_DATASETS:
        del header["train-dataset"]
    is_run = checkpoint.name == _BEST
    card = checkpoint.with_name(own.name) if is_run else checkpoint.with_suffix(".md")
    facts = {**network.describe(weights.spec), **_origin_facts(sidecar)}
    page = _PAGE.format(
        name=name,
        header=write_front_matter(header),
        dataset=dataset,
        uid=f"{user.lower()}/{version}/{card.stem}",
        network=network.name,
        card=card.name,
        size="x".join(map(str, weights.spec.input_size)),
        facts="\n".join(f"- {name}: {value}" for name, value in facts.items()),
        body="" if body is None else f"\n{_read(Path(body))}",
    )
    with replacing(card) as part:
        part.write_text(page, encoding="utf-8")
        try:
            load_card(part)  # before it takes the place of a card that loads
        except CardError as error:
            raise CardError(str(error).replace(str(part), str(card))) from error
    return load_card(card)


def checkpoint_of(place: Path) -> Path:
    """The checkpoint that is meant: the file itself, or the best one of a training's folder."""
    return place if place.suffix == ".ckpt" else place / _BEST


class _TextDumper(yaml.SafeDumper):
    """PyYAML's, without quotes around numbers and dates: cards are read as text."""


_TextDumper.yaml_implicit_resolvers = {
    first: [kind for kind in kinds if not kind[0].endswith((":float", ":int", ":timestamp"))]
    for first, kinds in yaml.SafeDumper.yaml_implicit_resolvers.items()
}


def write_front_matter(fields: Mapping[str, Any]) -> str:
    """Lines that :func:`.card.read_front_matter` reads, fences included, a blank line between the
    fields."""
    text = yaml.dump(
        fields, Dumper=_TextDumper, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return "\n".join((FENCE, re.sub(r"(?m)^(?=\w)", "\n", text), FENCE, ""))


def _asset(weights: Weights, folder: str) -> dict[str, str]:
    content, _ = weights.file.contents
    return {
        "file-format": "ckpt",
        "asset-link": f"<{folder}/{weights.path.name}>",
        "asset-sha256": weights.sha256,
        "asset-size": str(len(content)),
        "side-link": f"<{folder}/{sidecar_path(weights.path).name}>",
        "side-sha256": weights.file.sidecar_sha256,
    }


def _mindspore_version(sidecar: Sidecar) -> str:
    """The one that trained the weights; for others the one that has read them."""
    versions = sidecar.origin.get("versions")
    trained = versions.get("mindspore") if isinstance(versions, Mapping) else None
    return str(trained or installed_version("mindspore"))


def _origin_facts(sidecar: Sidecar) -> dict[str, Any]:
    """Seed, steps, hashes and the like; not the data's folder, which means nothing elsewhere."""
    plain = {k: v for k, v in sidecar.origin.items() if isinstance(v, str | int | float)}
    return {name: value for name, value in plain.items() if name != "data"}


def _read(path: Path) -> str:
    """The text for the card's end; CardError for headings that the Hub client refuses."""
    try:
        text = path.read_text(encoding="utf-8").strip() + "\n"
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: cannot be read ({error}); give a UTF-8 Markdown file") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#") and line.rstrip().endswith(":"):
            raise CardError(f"{path}:{number}: the heading ends in a colon, the Hub takes no such")
    return text
