"""``write_card``: a Hub model card for fine-tuned weights."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import yaml

from ..files import file_sha256, replacing
from ..models import find_network
from ..weights.sidecar import read_sidecar, sidecar_path
from .card import CardError, ModelCard, TextLoader, load_card
from .info import describe_weights

_TEMPLATE = """# {name}

---

model-name: {header[name]}

backbone-name: PAMTRI

module-type: cv

fine-tunable: True

model-version: {header[version]}

train-dataset: {header[dataset]}

evaluation: {evaluation}

author: {header[author]}

update-time: {date}

repo-link: <{repo}>

user-id: {header[user]}

used-for: inference

mindspore-version: {mindspore}

asset:

-
    file-format: ckpt
    asset-link: <{url}/{file}>
    asset-sha256: {sha256}
    side-link: <{url}/{side}>
    side-sha256: {side_sha256}

license: {header[license]}

summary: {header[summary]}

---

## Introduction

{name} is a DenseNet-121 that takes a vehicle crop and the vehicle's pose, and gives an embedding to
compare vehicles by, the colour and the type (Tang et al., PAMTRI, ICCV 2019). Input variant
`{variant}`, {size}x{size} pixels; {ids} identities, {colors} colours, {types} types.

## Use

```python
import mindspore_hub

network = mindspore_hub.load("{uid}")
```

or, with the module alone, `hub_conf.create_network(card="{card}")`.
"""
# How cards name the metrics that an evaluation measures.
_METRICS = {"Rank-1": "top1acc", "mAP": "map", "color": "coloracc", "type": "typeacc"}


def write_card(
    directory: str | Path,
    *,
    url: str,
    name: str = "MultiTaskNet",
    user: str = "MindSpore",
    version: str = "1.0",
    dataset: str = "custom",
    author: str = "unknown",
    license: str = "Apache2.0",
    repo: str = "https://gitee.com/mindspore/models/tree/master/research/cv/PAMTRI",
    summary: str = "Vehicle re-identification with colour and type, fine-tuned",
) -> ModelCard:
    """Write the Hub model card of a fine-tuned network's ``best.ckpt``.

    Args:
        directory: the output folder of :func:`multitasknet.finetune`. The card is written there.
        url: where ``best.ckpt`` and ``best.json`` will be published: the folder's URL.
        name, user, version, dataset, author, license, repo, summary: fields of the card.

    Returns:
        The card, read back and checked.

    Raises:
        CardError: no trained weights with a sidecar, or a field that the Hub does not accept.
        CheckpointError, SpecError, SidecarError: the weights or their sidecar are damaged.
    """
    checkpoint = Path(directory) / "best.ckpt"
    if not checkpoint.is_file() or not sidecar_path(checkpoint).is_file():
        raise CardError(
            f"{directory}: there is no best.ckpt with its best.json; give the output folder of "
            f"'multitasknet finetune'"
        )
    texts = {"name": name, "author": author, "dataset": dataset, "summary": summary}
    texts |= {"user": user, "version": version, "license": license}
    for field, text in texts.items():
        if ":" in text or "\n" in text or not text.strip():
            raise CardError(
                f"{field} is {text!r}; expected one line without a colon, the Hub takes no other"
            )
    info = describe_weights(checkpoint)
    network = find_network(info.spec.network)
    side = read_sidecar(checkpoint, info.spec)
    assert side is not None
    path = checkpoint.with_name(network.CARD)
    content = _TEMPLATE.format(
        name=name,
        header={field: _yaml_text(text) for field, text in texts.items()},
        evaluation=" | ".join(
            f"{theirs}{side.metrics[ours]:.2f}"
            for ours, theirs in _METRICS.items()
            if ours in side.metrics
        )
        or "none",
        date=datetime.date.today().isoformat(),
        repo=repo,
        mindspore=".".join(side.origin["versions"]["mindspore"].split(".")[:2]),
        url=url.rstrip("/"),
        file=checkpoint.name,
        sha256=info.sha256,
        side=sidecar_path(checkpoint).name,
        side_sha256=file_sha256(sidecar_path(checkpoint)),
        variant=side.spec.variant,
        size=side.spec.input_size[0],
        ids=side.spec.num_ids,
        colors=side.spec.num_colors,
        types=side.spec.num_types,
        uid=f"{user.lower()}/{version}/{path.stem}",
        card=path.name,
    )
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
        _check_card(temporary, path)
    return load_card(path)


def _yaml_text(text: str) -> str:
    """The text as a YAML value: as it stands where YAML reads it so, else in quotes."""
    try:
        plain = yaml.load(f"field: {text}", Loader=TextLoader) == {"field": text}
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)


def _check_card(written: Path, target: Path) -> None:
    """Refuse a card that does not load, before it takes the place of one that does."""
    try:
        load_card(written)
    except CardError as error:
        raise CardError(str(error).replace(str(written), str(target))) from error
