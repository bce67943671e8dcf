"""``info``, ``download`` and ``hub-install``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hub.card import ModelCard, default_card_path, load_card
from .options import add_json, add_source_options, print_json, print_rows

if TYPE_CHECKING:
    from ..hub.info import CardInfo, WeightsInfo


def add_parsers(commands: Any) -> None:
    info = commands.add_parser("info", help="say what a card or a weights file holds")
    source = info.add_mutually_exclusive_group()
    source.add_argument("--card", type=Path, help="a model card (default: this module's)")
    source.add_argument("--weights", type=Path, help="a .ckpt, .safetensors, .pth or .pth.tar file")
    info.add_argument("--cache-dir", type=Path, help="root of the download cache")
    add_json(info)
    info.set_defaults(run=_info)

    download = commands.add_parser("download", help="fetch and verify the card's weights")
    add_source_options(download)
    download.add_argument("--verify", action="store_true", help="hash a cached file again")
    download.set_defaults(run=_download)

    install = commands.add_parser(
        "hub-install", help="install card and module into the hub folder, for mindspore_hub.load"
    )
    install.add_argument("--hub-dir", type=Path, help="the hub folder (default: ~/.mscache)")
    install.add_argument("--card", type=Path, help="a model card (default: this module's)")
    install.add_argument("--version", help="the Hub's version to install it for, such as 1.9")
    install.add_argument("--download", action="store_true", help="fetch the weights as well")
    install.set_defaults(run=_hub_install)


def _card(options: argparse.Namespace) -> ModelCard:
    return load_card(options.card or default_card_path())


def _info(options: argparse.Namespace) -> None:
    from ..hub.info import describe_card, describe_weights

    if options.weights:
        rows = weights_rows(describe_weights(options.weights))
    else:
        rows = _card_rows(describe_card(_card(options), options.cache_dir))
    if options.json:
        print_json([rows])
    else:
        print_rows(rows)


def _card_rows(info: CardInfo) -> dict[str, object]:
    card = info.card
    metrics = ", ".join(f"{name} {value}" for name, value in card.metrics.items())
    rows: dict[str, object] = {
        "card": card.path,
        "uid": card.uid,
        "model": f"{card.name} ({card.backbone_name}), {card.module_type}",
        "author": f"{card.author}, {card.update_time}",
        "trained on": card.train_dataset,
        "metrics": f"{metrics or 'none'} (as published)",
        "licence": card.license,
        "fine-tunable": "yes" if card.fine_tunable else "no",
        "asset": card.asset.url,
        "mirrors": len(card.asset.mirrors),
        "sha256": card.asset.sha256,
        "cached": f"{'yes, verified' if info.verified else 'no'}: {info.path}",
    }
    if info.weights is None:
        return rows | {"variant": "stated in the file alone; 'multitasknet download' fetches it"}
    return rows | {
        name: value
        for name, value in weights_rows(info.weights).items()
        if name not in ("file", "sha256")
    }


def weights_rows(info: WeightsInfo) -> dict[str, object]:
    """What ``info`` and ``convert`` say of a weights file."""
    spec = info.spec
    heads = [f"{spec.num_ids} identities"] if spec.include_top else ["no classifiers"]
    if spec.multi_task and spec.include_top:
        heads += [f"{spec.num_colors} colours", f"{spec.num_types} types"]
    rows: dict[str, object] = {
        "file": info.path,
        "sha256": info.sha256,
        "variant": f"{spec.variant} ({spec.channels} input channels)",
        "pose vector": "used" if spec.keypoint_aware else "not used",
        "classes": ", ".join(heads),
        "stem pool": f"padded as in {'PyTorch' if spec.stem_pool == 'symmetric' else 'MindSpore'}",
    }
    if spec.multi_task and spec.include_top:
        rows |= {"colours": ", ".join(spec.color_names), "types": ", ".join(spec.type_names)}
    return rows | {
        "parameters": f"{info.tensors} tensors, {info.values:,} values",
        "training state": f"{info.training_state} further entries",
    }


def _download(options: argparse.Namespace) -> None:
    from ..hub.cache import fetch_asset

    path = fetch_asset(
        _card(options), options.cache_dir, offline=options.offline, verify=options.verify
    )
    print(path)


def _hub_install(options: argparse.Namespace) -> None:
    from ..hub.install import hub_install

    for card in hub_install(options.hub_dir, card=options.card, version=options.version):
        root = card.path.parents[len(card.folder.parts)]
        print(f"installed {card.uid} into {root}; it loads with")
        if options.hub_dir:
            print(f"  mindspore_hub.manage.set_hub_dir({str(root)!r})")
        print(f'  mindspore_hub.load("{card.uid}")')
        if options.download:
            from ..hub.cache import fetch_asset

            print(f"weights: {fetch_asset(card, root)}")
