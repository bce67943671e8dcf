"""``info``, ``download``, ``convert``, ``write-card`` and ``hub-install``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError, MultiTaskNetError
from ..models import find_network
from .options import add_command, add_options, card_of, given, print_json, print_rows, source_of

if TYPE_CHECKING:
    from ..hub.card import ModelCard
    from ..weights.read import Weights


def add_parsers(commands: Any) -> None:
    text = "print what a card or a weights file holds, or check this machine"
    info = add_command(commands, "info", _info, text, example="--weights best.ckpt")
    what = info.add_mutually_exclusive_group()
    add_options(what, "--weights")
    what.add_argument(
        "--system",
        action="store_true",
        help="versions, devices, and the shipped networks' outputs beside stored ones",
    )
    add_options(info, "--network", "--json")

    text = "download and verify the weights of a card"
    download = add_command(commands, "download", _download, text, example="--network poseestnet")
    add_options(download, "--card", "--network")

    text = "write weights of any origin under the published names"
    example = "model_best.pth.tar pamtri.safetensors --float16"
    convert = add_command(commands, "convert", _convert, text, example=example)
    convert.add_argument("source", type=Path, help="a .ckpt, .safetensors, .pth or .pth.tar file")
    convert.add_argument("target", type=Path, help="the file to write: .ckpt, .safetensors or .pth")
    convert.add_argument(
        "--float16", action="store_true", help="half the size: kernels and matrices in float16"
    )
    convert.add_argument(
        "--without",
        nargs="+",
        default=(),
        metavar="CELL",
        help="leave these out, such as classifier_vid, which only knows the training's vehicles",
    )

    text = "write a Hub model card for trained weights"
    example = "runs/mine --url https://example.com/models/mine"
    card = add_command(commands, "write-card", _write_card, text, example=example)
    card.add_argument(
        "directory", type=Path, metavar="DIR", help="the --output of finetune, or a .ckpt file"
    )
    card.add_argument(
        "--url", required=True, help="the folder where weights and sidecar will be published"
    )
    card.add_argument(
        "--field",
        type=_field,
        nargs="+",
        default=(),
        metavar="NAME=TEXT",
        help="fields of the card, such as author=ME license=MIT train-dataset='my crossing'",
    )

    text = "install cards and module for mindspore_hub.load"
    install = add_command(commands, "hub-install", _hub_install, text, example="--version 1.9")
    install.add_argument("--hub-dir", type=Path, help="the hub folder (default: ~/.mscache)")
    add_options(install, "--card")
    install.add_argument("--version", help="the Hub's version to install for, such as 1.9")


def _field(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=TEXT, got {text!r}")
    return name, value


def _info(options: argparse.Namespace) -> None:
    from ..hub.card import ENTRIES
    from ..weights.read import read_weights

    if options.system:
        _print_system(options)
        return
    named = source_of(options).weights
    if named is None:
        raise CheckpointError("random weights hold nothing to print; give a file or a card")
    if named in ENTRIES:
        rows = _card_rows(card_of(options))
    else:
        network = find_network(options.network) if options.network else None
        rows = _weights_rows(read_weights(named, network))
    print_rows(rows, as_json=options.json)


def _print_system(options: argparse.Namespace) -> None:
    """Print a line a finding; MultiTaskNetError if one of them is wrong."""
    from ..system import examine

    wrong = 0
    for finding in examine():
        wrong += not finding.is_right
        if options.json:
            print_json([asdict(finding)])
        else:
            mark = "" if finding.is_right else "WRONG: "
            print(f"{finding.name:24}{mark}{finding.found}", flush=True)
    if wrong:
        raise MultiTaskNetError(f"{wrong} of these are wrong; report them with this table")


def _card_rows(card: ModelCard) -> dict[str, object]:
    from ..hub.download import asset_path
    from ..weights.read import WeightsFile

    path, asset, fields = asset_path(card.asset), card.asset, card.fields
    metrics = ", ".join(f"{name} {value}" for name, value in card.metrics.items())
    rows: dict[str, object] = {
        "card": card.path,
        "uid": card.uid,
        "model": f"{card.name} ({fields['backbone-name']}), {fields['module-type']}",
        "author": f"{fields['author']}, {fields['update-time']}",
        "trained on": fields.get("train-dataset", "see the card"),
        "metrics": f"{metrics or 'none'} (as published)",
        "licence": fields["license"],
        "fine-tunable": fields["fine-tunable"],
        "asset": asset.url,
        "mirrors": len(asset.mirrors),
        "stated sha256": asset.sha256,
    }
    if not path.is_file():
        return rows | {"file": f"{path} is not there; 'multitasknet download' fetches it"}
    return rows | _weights_rows(WeightsFile(path, asset.sha256).read())


def _weights_rows(weights: Weights) -> dict[str, object]:
    from ..weights.read import check_values

    check_values(weights)
    arrays, left_out = weights.arrays.values(), weights.left_out
    named = f" ({', '.join(left_out[:3])}{', ...' * (len(left_out) > 3)})" if left_out else ""
    return {
        "file": weights.path,
        "sha256": weights.sha256,
        "network": weights.network.name,
        **weights.network.describe(weights.spec),
        "parameters": f"{len(arrays)} tensors, {sum(one.size for one in arrays):,} values",
        "left out": f"{len(left_out)} further entries{named}",
    }


def _download(options: argparse.Namespace) -> None:
    from ..hub.download import fetch_asset

    options.weights = None if options.card else "card"
    print(fetch_asset(card_of(options)))


def _convert(options: argparse.Namespace) -> None:
    from ..weights.convert import convert
    from ..weights.read import read_weights

    how = given(options, ("float16", "without"))
    print_rows(_weights_rows(read_weights(convert(options.source, options.target, **how))))


def _write_card(options: argparse.Namespace) -> None:
    from ..hub.publish import write_card

    card = write_card(options.directory, url=options.url, fields=dict(options.field))
    print(card.path)
    print(f"publish these two beside each other, then create_network(card={str(card.path)!r}):")
    print(*(f"  {asset.url}" for asset in (card.asset, card.asset.side) if asset), sep="\n")


def _hub_install(options: argparse.Namespace) -> None:
    from ..hub.install import hub_install

    for card in hub_install(options.hub_dir, card=options.card, version=options.version):
        root = card.path.parents[len(card.asset.folder.parts)]
        print(f"installed {card.uid} into {root}; it loads with")
        if options.hub_dir:
            print(f"  mindspore_hub.manage.set_hub_dir({str(root)!r})")
        print(f'  mindspore_hub.load("{card.uid}")')
