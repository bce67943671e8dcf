"""``finetune``, its options made from the settings, and ``demo``, the whole product in one run."""

from __future__ import annotations

import argparse
import webbrowser
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..training.history import shown
from ..training.settings import Rule, all_rules
from .options import add_command, add_options, add_renamed, given, positive, print_table

if TYPE_CHECKING:
    from ..training.history import EpochRecord

_HOW = ("resume", "device", "workers", "tensorboard", "cache_dir", "offline")
_FOLDER = "multitasknet-demo"


def add_parsers(commands: Any) -> None:
    finetune = add_command(commands, "finetune", _finetune, "train on a data set")
    finetune.description = (
        "Train on a data set. A setting that is not given is taken from --config, or with "
        "--resume from the training to go on with, else as printed here in brackets."
    )
    add_options(finetune, "--data", "--cache-dir", "--offline", "--workers", "--device")
    finetune.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="a new folder for the results"
    )
    finetune.add_argument("--resume", action="store_true", help="go on in DIR")
    finetune.add_argument("--config", type=Path, metavar="YAML", help="settings by name")
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

    demo = add_command(commands, "demo", _demo, "make data, train, evaluate and report, offline")
    demo.add_argument(
        "--output", type=Path, metavar="DIR", help=f"a new folder ({_FOLDER}, {_FOLDER}-2, ...)"
    )
    demo.add_argument("--quick", action="store_true", help="about a minute instead of ten")
    demo.add_argument("--online", action="store_true", help="start from the card's weights")
    demo.add_argument("--open", action="store_true", help="open the report in a browser")
    add_options(demo, "--workers", "--device")


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


def _shown(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {metrics[name]:.2f}" for name in shown(metrics)) or "not evaluated"


def _demo(options: argparse.Namespace) -> None:
    from ..demo import FULL, QUICK, run_demo

    result = run_demo(
        options.output or _free_folder(),
        QUICK if options.quick else FULL,
        online=options.online,
        device=options.device,
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
