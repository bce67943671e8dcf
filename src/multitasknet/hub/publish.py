"""``write_card``: a Hub model card for a user's own weights."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from ..errors import CardError
from ..files import replacing
from ..weights.read import Weights, check_values, read_weights
from ..weights.sidecar import sidecar_path
from .card import FIELDS, PUBLISHED_METRICS, ModelCard, default_card_path, load_card, parse_card

_PAGE = """# {name}

---
{header}
---

## Introduction

Weights of the network `{network}`, trained on {dataset} at {size} pixels.

{facts}

## Use

```python
import mindspore_hub

network = mindspore_hub.load("{uid}")
```

or, with the module alone, `hub_conf.create_network("{network}", card="{card}")`.
"""

_BEST = "best.ckpt"
# Of the 388 data sets that the Hub client knows. It refuses a card that names another, so the
# card's text names the data set instead.
_CLIENT_DATASETS = ("VeRi", "veri", "veir")


def write_card(
    directory: str | Path, *, url: str, fields: Mapping[str, str] | None = None
) -> ModelCard:
    """Write the Hub model card of a checkpoint with a sidecar, which the Hub client accepts.

    Args:
        directory: the output folder of :func:`multitasknet.finetune`, whose ``best.ckpt`` is meant,
            or a checkpoint. The card is written beside it.
        url: where checkpoint and sidecar will be published: the folder's URL.
        fields: texts of the card by the Hub's names, such as ``author``, ``license``,
            ``model-version`` and ``train-dataset``. Others are those of the network's published
            card. A data set that the Hub client does not know is named in the card's text alone.

    Returns:
        The card, read back and checked.

    Raises:
        CardError: no trained weights with a sidecar, or a field that the Hub does not accept.
    """
    checkpoint = Path(directory)
    if checkpoint.suffix != ".ckpt":
        checkpoint /= _BEST
    side = sidecar_path(checkpoint)
    if not checkpoint.is_file() or not side.is_file():
        raise CardError(
            f"{directory}: there is no {checkpoint.name} with its {side.name}; give the output "
            f"folder of 'multitasknet finetune', or a .ckpt file"
        )
    weights = read_weights(checkpoint)
    check_values(weights)
    own = default_card_path(weights.network.name)
    is_run = checkpoint.name == _BEST
    path = checkpoint.with_name(own.name) if is_run else checkpoint.with_suffix(".md")
    if path.exists():
        load_card(path)  # what is no card is not replaced
    published = load_card(own if own.is_file() else default_card_path())
    text = _page(weights, published, path, url, fields or {})
    card = parse_card(path, text)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return card


def _page(
    weights: Weights, published: ModelCard, path: Path, url: str, fields: Mapping[str, str]
) -> str:
    sidecar, network = weights.sidecar, weights.network
    assert sidecar is not None
    texts = {
        "model-name": network.title,
        "model-version": "1.0",
        "train-dataset": "custom data",
        "author": "unknown",
        "summary": f"{network.title}, fine-tuned",
        "repo-link": published.fields["repo-link"],
        **fields,
    }
    for field, text in texts.items():
        if field not in FIELDS:
            raise CardError(f"there is no field {field!r}; expected some of {', '.join(FIELDS)}")
        if (":" in text and field != "repo-link") or "\n" in text or not text.strip():
            raise CardError(f"{field} is {text!r}; the Hub takes one line without a colon")
    known = [name for name in PUBLISHED_METRICS if name in sidecar.metrics]
    measured = [f"{PUBLISHED_METRICS[name]}{sidecar.metrics[name]:.2f}" for name in known]
    renewed = {
        "evaluation": " | ".join(measured) or "none",
        "update-time": datetime.date.today().isoformat(),
        "mindspore-version": ".".join(version("mindspore").split(".")[:2]),
        "asset": [_asset(weights, url.rstrip("/"))],
    }
    header = {**published.fields, **renewed, **texts, "repo-link": f"<{texts['repo-link']}>"}
    if texts["train-dataset"] not in _CLIENT_DATASETS:
        del header["train-dataset"]
    # Seed, steps, hashes and the like; not the data's folder, which means nothing elsewhere.
    origin = {k: v for k, v in sidecar.origin.items() if isinstance(v, str | int | float)}
    facts = network.describe(weights.spec) | origin
    facts.pop("data", None)
    return _PAGE.format(
        name=texts["model-name"],
        header=_front_matter(header),
        dataset=texts["train-dataset"],
        uid=f"{header['user-id'].lower()}/{header['model-version']}/{path.stem}",
        network=network.name,
        card=path.name,
        size="x".join(map(str, weights.spec.input_size)),
        facts="\n".join(f"- {name}: {value}" for name, value in facts.items()),
    )


class _TextDumper(yaml.SafeDumper):
    """PyYAML's, without quotes around numbers and dates: cards are read as text."""

    yaml_implicit_resolvers = {}  # noqa: RUF012


def _front_matter(fields: Mapping[str, Any]) -> str:
    """The fields as YAML, with a blank line before each."""
    text = yaml.dump(
        fields, Dumper=_TextDumper, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return re.sub(r"(?m)^(?=\w)", "\n", text)


def _asset(weights: Weights, folder: str) -> dict[str, str]:
    return {
        "file-format": "ckpt",
        "asset-link": f"<{folder}/{weights.path.name}>",
        "asset-sha256": weights.sha256,
        "asset-size": str(len(weights.file.contents[0])),
        "side-link": f"<{folder}/{sidecar_path(weights.path).name}>",
        "side-sha256": weights.file.hashes[1],
    }
