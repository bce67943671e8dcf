"""``finetune`` and ``adapt``, their options made from the settings."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ..training.history import HISTORY, shown
from ..training.settings import (
    AdaptSettings,
    Freeze,
    MultiTaskNetSettings,
    PoseSettings,
    Settings,
    check_settings,
    read_config,
)
from .options import add_command, add_options, given, print_table

if TYPE_CHECKING:
    from ..training.finetune import FinetuneResult
    from ..training.history import EpochRecord

# What users set often; the rest is for --config.
_SHARED = ("network", "size", "epochs", "batch_size", "lr", "freeze")
_OF_IDENTITY = ("pose",)
_OF_ROUNDS = ("rounds", "freeze", "pose")
_SOURCE = ("weights", "card")
_WIDTH = 75


def add_parsers(commands: Any) -> None:
    finetune = add_command(
        commands,
        "finetune",
        _finetune,
        "train on a data set",
        example="--data vehicles --output run --weights synthetic --epochs 5 --freeze blocks",
    )
    finetune.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="ROOT",
        help="a data set's folder, or several to train on together; of test sets of several sizes "
        "the smallest validates",
    )
    finetune.add_argument(
        "--resume", action="store_true", help="go on in DIR after the last finished epoch"
    )
    _add_shared(finetune, "a new folder for the results")
    _add_settings(finetune, "settings", Settings, _SHARED)
    title = "MultiTaskNet, and VehicleReID, which has no variant"
    _add_settings(finetune, title, MultiTaskNetSettings, _OF_IDENTITY)
    _add_settings(finetune, "PoseEstNet", PoseSettings, ())

    adapt = add_command(
        commands,
        "adapt",
        _adapt,
        "adapt weights to crops without labels; the same command goes on where it was interrupted",
        example="crops/ --output adapted --weights synthetic --rounds 3",
    )
    adapt.add_argument("crops", type=Path, metavar="CROPS", help="a folder of vehicle crops")
    adapt.add_argument(
        "--data",
        type=Path,
        metavar="ROOT",
        help="a labelled data set to measure each round on (its smallest test set)",
    )
    _add_shared(adapt, "a folder for the results")
    adapt.set_defaults(resume=False)
    _add_settings(adapt, "rounds", AdaptSettings, _OF_ROUNDS)


def _add_shared(parser: argparse.ArgumentParser, output: str) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help=output)
    add_options(parser, "--weights", "--device")
    parser.add_argument(
        "--config", type=Path, metavar="YAML", help="a file with settings by name, see below"
    )


def _add_settings(
    parser: argparse.ArgumentParser, title: str, kind: type[Settings], names: Iterable[str]
) -> None:
    """A group of options, and the names of the settings that only a file takes."""
    general = () if kind is Settings else Settings.model_fields
    others = [name for name in kind.model_fields if name not in (*names, *_SOURCE, *general)]
    also = textwrap.fill(f"in the file also: {', '.join(others)}", _WIDTH)
    group = parser.add_argument_group(title, also, argument_default=argparse.SUPPRESS)
    for name in names:
        field = kind.model_fields[name]
        # The settings read and check the value.
        group.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=f"{{{','.join(get_args(Freeze))}}}" if name == "freeze" else name.upper(),
            help=f"{field.description}{'' if field.default is None else f' ({field.default})'}",
        )


def _settings(
    options: argparse.Namespace, kind: type[Settings] | None, names: Iterable[str]
) -> dict[str, Any]:
    """The settings of the file and of the options, which win."""
    settings = read_config(options.config, kind) if options.config else {}
    settings |= given(options, names)
    if options.weights and options.weights.endswith(".md"):
        settings |= {"weights": "card", "card": options.weights}
    elif options.weights:
        settings["weights"] = options.weights
    if not options.resume:  # else what is not given is the earlier training's
        check_settings(settings, "options", kind)
    return settings


def _finetune(options: argparse.Namespace) -> None:
    from ..runtime import usable_workers
    from ..training.finetune import finetune

    settings = _settings(options, None, (*_SHARED, *_OF_IDENTITY))
    run = given(options, ("resume", "device")) | {"workers": usable_workers()}
    try:
        result = finetune(options.data, options.output, on_epoch=_print_epoch, **run, **settings)
    except KeyboardInterrupt as interruption:
        if not (options.output / HISTORY).is_file():
            raise
        raise KeyboardInterrupt(
            "interrupted; with --resume it goes on after the last finished epoch"
        ) from interruption
    if result.is_first:
        _print_best(result, "epoch", f", {_metrics(result.metrics)}")


def _print_epoch(record: EpochRecord) -> None:
    print(f"epoch {record.epoch}: {_losses(record)}")
    print(
        f"  rate {record.rate:.3g}, {record.images_per_second:.1f} images/s, "
        f"{_metrics(record.metrics)}",
        flush=True,
    )


def _print_best(result: FinetuneResult, word: str, metrics: str = "") -> None:
    record = result.history.best
    best = f"{word} {record.epoch}" if record else ""
    best = best or f"the weights as they were, which no {word} improved"
    print(f"\nbest: {best}{metrics}\n{result.checkpoint}\n{result.output / 'report.html'}")


def _losses(record: EpochRecord) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in record.losses.items())


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {metrics[name]:.2f}" for name in shown(metrics)) or "not evaluated"


def _adapt(options: argparse.Namespace) -> None:
    from ..runtime import usable_workers
    from ..training.adapt import adapt

    settings = _settings(options, AdaptSettings, _OF_ROUNDS)
    run = given(options, ("data", "device")) | {"workers": usable_workers()}
    result = adapt(options.crops, options.output, on_round=_print_round, **run, **settings)
    before = result.history.before
    if before:
        columns = {"before": before, "best": {name: result.metrics[name] for name in before}}
        print()
        print_table("percent", columns, decimals=2)
    _print_best(result, "round")


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
    measured = _metrics(found) if "mAP" in found else "not measured"
    print(f"  {_losses(record) or 'no training'}, {record.seconds:.0f} s, {measured}", flush=True)
