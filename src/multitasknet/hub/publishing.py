"""``write_card``: a Hub model card for fine-tuned weights."""

from __future__ import annotations

import datetime
from pathlib import Path

from ..files import file_sha256, replacing
from ..models import find_network
from ..weights.sidecar import read_sidecar, sidecar_path
from .card import (
    PUBLISHED_METRICS,
    CardError,
    ModelCard,
    default_card_path,
    load_card,
    read_front_matter,
    write_front_matter,
)
from .info import describe_weights

_PAGE = """# {name}

{header}
## Introduction

Weights for the network of `{published}`, trained on {dataset} at {size} pixels.

{facts}

## Use

```python
import mindspore_hub

network = mindspore_hub.load("{uid}")
```

or, with the module alone, `hub_conf.create_network("{network}", card="{card}")`.
"""


def write_card(
    directory: str | Path,
    *,
    url: str,
    name: str | None = None,
    user: str = "MindSpore",
    version: str = "1.0",
    dataset: str = "custom",
    author: str = "unknown",
    license: str = "Apache2.0",
    repo: str | None = None,
    summary: str | None = None,
) -> ModelCard:
    """Write the Hub model card of a fine-tuned network's ``best.ckpt``.

    Args:
        directory: the output folder of :func:`multitasknet.finetune`. The card is written there.
        url: where ``best.ckpt`` and ``best.json`` will be published: the folder's URL.
        name, user, version, dataset, author, license, repo, summary: fields of the card; name and
            repo are those of the network's published card where they are not given.

    Returns:
        The card, read back and checked.

    Raises:
        CardError: no trained weights with a sidecar, or a field that the Hub does not accept.
        CheckpointError, SpecError, SidecarError: the weights or their sidecar are damaged.
    """
    checkpoint = Path(directory) / "best.ckpt"
    side = sidecar_path(checkpoint)
    if not checkpoint.is_file() or not side.is_file():
        raise CardError(
            f"{directory}: there is no best.ckpt with its best.json; give the output folder of "
            f"'multitasknet finetune'"
        )
    info = describe_weights(checkpoint)
    spec, sidecar = info.spec, read_sidecar(checkpoint, info.spec)
    assert sidecar is not None
    published = load_card(default_card_path(spec.network))
    name = published.name if name is None else name
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
    folder = url.rstrip("/")
    asset = {
        "file-format": "ckpt",
        "asset-link": f"<{folder}/{checkpoint.name}>",
        "asset-sha256": info.sha256,
        "side-link": f"<{folder}/{side.name}>",
        "side-sha256": file_sha256(side),
    }
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
        "mindspore-version": ".".join(sidecar.origin["versions"]["mindspore"].split(".")[:2]),
        "asset": [asset],
    }
    card = checkpoint.with_name(published.path.name)
    facts = find_network(spec.network).describe(spec)
    page = _PAGE.format(
        name=name,
        header=write_front_matter(header),
        published=published.uid,
        dataset=dataset,
        uid=f"{user.lower()}/{version}/{card.stem}",
        network=spec.network,
        card=card.name,
        size="x".join(map(str, spec.input_size)),
        facts="\n".join(f"- {name}: {value}" for name, value in facts.items()),
    )
    with replacing(card) as part:
        part.write_text(page, encoding="utf-8")
        try:
            load_card(part)  # before it takes the place of a card that loads
        except CardError as error:
            raise CardError(str(error).replace(str(part), str(card))) from error
    return load_card(card)
