"""``finetune`` and ``adapt``, with options made from the settings, and ``demo``, all in one run."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Mapping
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..training.history import shown
from ..training.settings import AdaptSettings, Rule, all_rules
from .options import (
    SOURCE,
    add_command,
    add_options,
    add_renamed,
    given,
    positive,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from ..training.history import EpochRecord

DEVICES = ("CPU", "Ascend", "GPU")
_HOW = ("resume", "device", "workers", "tensorboard", "cache_dir", "offline")
_FOLDER = "multitasknet-demo"
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
    finetune = add_command(commands, "finetune", _finetune, "train on a data set")
    finetune.description = (
        "Train on a data set. A setting that is not given is taken from --config, or with "
        "--resume from the training to go on with, else as printed here in brackets."
    )
    add_options(finetune, "--data", "--cache-dir", "--offline", "--workers")
    finetune.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="a new folder for the results"
    )
    finetune.add_argument("--resume", action="store_true", help="go on in DIR")
    finetune.add_argument("--config", type=Path, metavar="YAML", help="settings by name")
    finetune.add_argument("--device", choices=DEVICES, help="where to compute")
    finetune.add_argument(
        "--tensorboard", action="store_true", help="write TensorBoard events to DIR/events"
    )
    group = finetune.add_argument_group("settings", argument_default=argparse.SUPPRESS)
    margin = group.add_mutually_exclusive_group()
    for name, rule in all_rules().items():
        _add_setting(margin if name == "margin" else group, name, rule)
    margin.add_argument("--soft-margin", dest="margin", action="store_const", const=None)
    add_renamed(group, "--batch", "--batch-size", type=positive)
    add_renamed(group, "--trunk-rate", "--backbone-rate", type=float)

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
    add_options(adapt, *SOURCE, "--pose", "--size", "--backend", "--workers", "--json")
    adapt.add_argument(
        "--train",
        choices=tuple(_TRAINED),
        default="all",
        help="all, or the last block and the heads, or the heads alone, which is faster (all)",
    )
    adapt.add_argument("--device", choices=DEVICES, help="where to compute")
    rounds = adapt.add_argument_group("rounds", argument_default=argparse.SUPPRESS)
    for name in _ADAPT:
        _add_setting(rounds, name, AdaptSettings.rules()[name])

    demo = add_command(commands, "demo", _demo, "make data, train, evaluate and report, offline")
    demo.add_argument(
        "--output", type=Path, metavar="DIR", help=f"a new folder ({_FOLDER}, {_FOLDER}-2, ...)"
    )
    demo.add_argument("--quick", action="store_true", help="about a minute instead of ten")
    demo.add_argument("--online", action="store_true", help="start from the card's weights")
    demo.add_argument("--open", action="store_true", help="open the report in a browser")
    add_options(demo, "--workers")


def _add_setting(group: Any, name: str, rule: Rule) -> None:
    option = f"--{name.replace('_', '-')}"
    if rule.kind is bool:
        group.add_argument(option, action="store_true", help=rule.help)
        return
    if rule.many:
        group.add_argument(option, type=float, nargs="+", metavar="EPOCH", help=rule.help)
        return
    # The range, and old words among the choices, are for the settings to check.
    group.add_argument(
        option,
        type=rule.kind,
        metavar=f"{{{','.join(rule.choices)}}}" if rule.choices else name.upper(),
        help=rule.help if rule.default is None else f"{rule.help} ({rule.default})",
    )


def _finetune(options: argparse.Namespace) -> None:
    from ..training.finetuning import finetune
    from ..training.settings import read_config

    settings = read_config(options.config) if options.config else {}
    settings |= given(options, (*_HOW, *all_rules()))
    result = finetune(options.data, options.output, on_epoch=_print_epoch, **settings)
    if not result.is_first:
        return
    best = result.best
    print(f"\nbest: epoch {best.epoch}, {_shown(best.metrics)}")
    print(f"{result.checkpoint}\n{result.output / 'report.html'}")


def _print_epoch(record: EpochRecord) -> None:
    losses = " ".join(f"{name} {value:.4g}" for name, value in record.losses.items())
    print(f"epoch {record.epoch}: {losses}")
    print(
        f"  rate {record.rate:.3g}, {record.images_per_second:.1f} images/s, "
        f"{record.memory_mb:.0f} MB, {_shown(record.metrics)}",
        flush=True,
    )


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
    measured = _shown(found) if "mAP" in found else "not measured"
    print(f"  {losses or 'no training'}, {record.seconds:.0f} s, {measured}", flush=True)


def _print_json_round(record: EpochRecord) -> None:
    print_json([asdict(record)])
    sys.stdout.flush()


def _shown(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {metrics[name]:.2f}" for name in shown(metrics)) or "not evaluated"


def _demo(options: argparse.Namespace) -> None:
    from ..demo import FULL, QUICK, run_demo

    result = run_demo(
        options.output or _free_folder(),
        QUICK if options.quick else FULL,
        online=options.online,
        workers=options.workers,
        on_epoch=_print_epoch,
    )
    print()
    columns = {"chance": result.chance, "before": result.before, "after": result.after}
    print_table("unseen vehicles", columns, decimals=1)
    print(f"\n{result.report}")
    if options.open:
        webbrowser.open(result.report.resolve().as_uri())


def _free_folder() -> Path:
    names = (f"{_FOLDER}-{number}" if number > 1 else _FOLDER for number in count(1))
    return next(path for path in map(Path, names) if not path.exists())
