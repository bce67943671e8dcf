"""``adapt``: weights to crops without labels, in rounds."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..training.settings import AdaptSettings
from .options import SOURCE, add_command, add_options, given, print_json, print_table
from .training import add_setting, shown_metrics

if TYPE_CHECKING:
    from ..training.history import EpochRecord

_ADAPT = (
    "rounds",
    "epochs",
    "lr",
    "batch_size",
    "instances",
    "eps",
    "min_images",
    "neighbors",
    "seed",
)
_TRAINED = {"all": "none", "last-block": "blocks", "heads": "backbone"}


def add_parsers(commands: Any) -> None:
    adapt = add_command(commands, "adapt", _adapt, "adapt weights to crops without labels")
    adapt.description = (
        "Adapt weights to crops without labels: in rounds, cluster them and train on the clusters. "
        "Where it was interrupted, the same command goes on."
    )
    adapt.add_argument("crops", type=Path, metavar="CROPS", help="a folder of vehicle crops")
    adapt.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="a folder for the results"
    )
    adapt.add_argument(
        "--data", type=Path, metavar="ROOT", help="a labelled data set to measure each round on"
    )
    add_options(adapt, *SOURCE, "--pose", "--size", "--backend", "--workers", "--device", "--json")
    adapt.add_argument(
        "--train",
        choices=tuple(_TRAINED),
        default="last-block",
        help="all, or the last block and the heads, or the heads alone, which is faster "
        "(last-block)",
    )
    rounds = adapt.add_argument_group("rounds", argument_default=argparse.SUPPRESS)
    for name in _ADAPT:
        add_setting(rounds, name, AdaptSettings.rules()[name])


def _adapt(options: argparse.Namespace) -> None:
    from ..training.adaptation import adapt

    settings = given(options, _ADAPT) | {"freeze": _TRAINED[options.train]}
    settings |= {name: str(getattr(options, name)) for name in ("weights", "pose")}
    if options.card:
        settings["card"] = str(options.card)
    if options.size:
        settings["size"] = options.size[0]
    show = _print_json_round if options.json else _print_round
    how = given(options, ("data", "backend", "device", "workers", "cache_dir", "offline"))
    result = adapt(options.crops, options.output, on_round=show, **how, **settings)
    best, report = result.best, result.output / "report.html"
    if options.json:
        files = {"checkpoint": str(result.checkpoint), "report": str(report)}
        print_json([{"best": best.epoch, "before": dict(result.history.before), **files}])
        return
    before = result.history.before
    if before:
        columns = {"before": before, "best": {name: best.metrics[name] for name in before}}
        print()
        print_table("percent", columns, decimals=2)
    print(f"\nbest: round {best.epoch}\n{result.checkpoint}\n{report}")


def _print_round(record: EpochRecord) -> None:
    found = record.metrics
    if record.losses:
        print(
            f"round {record.epoch}: {found['clusters']} clusters at eps {found['eps']:g}, "
            f"{found['used']:.0f} % of the crops, {found['outliers']} outliers, "
            f"{found['one_camera']} of one camera, silhouette {found['silhouette']:.3f}"
        )
    else:
        print(f"round {record.epoch}: batch norm statistics")
    losses = " ".join(f"{name} {value:.4g}" for name, value in record.losses.items())
    measured = shown_metrics(found) if "mAP" in found else "not measured"
    print(f"  {losses or 'no training'}, {record.seconds:.0f} s, {measured}", flush=True)


def _print_json_round(record: EpochRecord) -> None:
    print_json([asdict(record)])
    sys.stdout.flush()
