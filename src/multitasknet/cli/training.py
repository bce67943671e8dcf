"""``finetune``, its options made from the settings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..training.history import shown
from ..training.settings import Rule, all_rules
from .options import add_command, add_options, given

if TYPE_CHECKING:
    from ..training.history import EpochRecord

_HOW = ("resume", "device", "workers", "tensorboard", "cache_dir", "offline", "allow_outside")


def add_parsers(commands: Any) -> None:
    finetune = add_command(commands, "finetune", _finetune, "train on a data set")
    finetune.description = (
        "Train on a data set. A setting that is not given is taken from --config, or with "
        "--resume from the training to go on with, else as printed here in brackets."
    )
    add_options(
        finetune, "--data", "--allow-outside", "--cache-dir", "--offline", "--workers", "--device"
    )
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
        add_setting(margin if name == "margin" else group, name, rule)
    margin.add_argument(
        "--soft-margin",
        dest="margin",
        action="store_const",
        const=None,
        help="the triplet loss's softplus instead of a margin",
    )


def add_setting(group: Any, name: str, rule: Rule) -> None:
    """A setting as an option."""
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
    result = finetune(options.data, options.output, on_epoch=print_epoch, **settings)
    if not result.is_first:
        return
    best = result.best
    print(f"\nbest: epoch {best.epoch}, {shown_metrics(best.metrics)}")
    print(f"{result.checkpoint}\n{result.output / 'report.html'}")


def print_epoch(record: EpochRecord) -> None:
    losses = " ".join(f"{name} {value:.4g}" for name, value in record.losses.items())
    print(f"epoch {record.epoch}: {losses}")
    print(
        f"  rate {record.rate:.3g}, {record.images_per_second:.1f} images/s, "
        f"{record.memory_mb:.0f} MB, {shown_metrics(record.metrics)}",
        flush=True,
    )


def shown_metrics(metrics: Mapping[str, float]) -> str:
    """A line of an epoch's metrics."""
    return ", ".join(f"{name} {metrics[name]:.2f}" for name in shown(metrics)) or "not evaluated"
