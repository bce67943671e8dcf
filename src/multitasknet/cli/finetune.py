"""``finetune``: training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.multitasknet.spec import VARIANTS
from .options import add_workers, image_size, positive

if TYPE_CHECKING:
    from ..training.history import EpochRecord

_SHOWN = ("mAP", "Rank-1", "color", "type")


def add_parsers(commands: Any) -> None:
    finetune = commands.add_parser(
        "finetune",
        help="train on a data set",
        description="Train on a data set. A setting that is not given is taken from --config, or "
        "with --resume from the training to go on with, else as printed here in brackets.",
    )
    finetune.add_argument("--data", type=Path, required=True, help="PAMTRI, VeRi, CSV or pack")
    finetune.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="a new folder for the results"
    )
    finetune.add_argument("--resume", action="store_true", help="go on in DIR")
    finetune.add_argument("--config", type=Path, metavar="YAML", help="settings by name")
    finetune.add_argument("--device", choices=("CPU", "Ascend", "GPU"), help="where to compute")
    finetune.add_argument(
        "--tensorboard", action="store_true", help="write TensorBoard events to DIR/events"
    )
    add_workers(finetune)
    _add_settings(finetune)
    finetune.set_defaults(run=_finetune)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """The fields of Settings; what is not given stays out of the parsed options."""
    group = parser.add_argument_group("settings", argument_default=argparse.SUPPRESS)
    group.add_argument("--weights", help="'card', 'none' or a file (card)")
    group.add_argument("--card", help="a model card (this module's)")
    group.add_argument("--variant", choices=VARIANTS, help="input variant (that of the weights)")
    group.add_argument("--size", type=_side, help="side of the input in pixels (256)")
    group.add_argument("--epochs", type=positive, help="uses of every image (10)")
    group.add_argument("--batch", type=positive, help="images a batch and device (32)")
    group.add_argument("--instances", type=positive, help="images of each vehicle in it (4)")
    group.add_argument("--optimizer", choices=("adam", "sgd"), help="(adam)")
    group.add_argument("--lr", type=float, help="learning rate (0.0003)")
    group.add_argument("--schedule", choices=("cosine", "steps", "constant"), help="(cosine)")
    group.add_argument("--warmup", type=float, help="epochs of warm-up (1)")
    group.add_argument(
        "--milestones", type=float, nargs="+", metavar="EPOCH", help="for steps: rate x 0.1 there"
    )
    group.add_argument("--backbone-rate", type=float, help="the backbone's part of the rate (1)")
    group.add_argument("--weight-decay", type=float, help="on weights only (0.0005)")
    group.add_argument("--clip", type=float, help="largest norm of the gradient (50)")
    group.add_argument("--freeze", choices=("none", "stages", "backbone"), help="(none)")
    group.add_argument("--freeze-statistics", action="store_true", help="of all batch norms")
    group.add_argument("--smoothing", type=float, help="of the identity labels (0.1)")
    margin = group.add_mutually_exclusive_group()
    margin.add_argument("--margin", type=float, help="of the triplet loss (0.3)")
    margin.add_argument("--soft-margin", dest="margin", action="store_const", const=None)
    for name, default in (("triplet", 1), ("color", 0.125), ("type", 0.125)):
        group.add_argument(f"--{name}-weight", type=float, help=f"in the loss ({default})")
    group.add_argument("--crop", type=float, help="share of images to zoom into (0.5)")
    group.add_argument("--flip", choices=("swap", "paper", "none"), help="(swap)")
    group.add_argument("--erase", type=float, help="share of images to erase a part of (0.5)")
    group.add_argument("--jitter", type=float, help="of brightness and contrast (0.2)")
    group.add_argument("--gather", action="store_true", help="mine triplets across devices")
    group.add_argument("--precision", choices=("auto", "float32", "mixed"), help="(auto)")
    group.add_argument("--evaluate-every", type=positive, metavar="EPOCHS", help="(1)")
    group.add_argument("--seed", type=int, help="of all that is random (0)")


def _side(text: str) -> int:
    return image_size(text)[0]


def _finetune(options: argparse.Namespace) -> None:
    from ..training.finetuning import finetune
    from ..training.settings import Settings, read_config

    settings = read_config(options.config) if options.config else {}
    given = vars(options)
    settings |= {name: given[name] for name in Settings.__dataclass_fields__ if name in given}
    result = finetune(
        options.data,
        options.output,
        resume=options.resume,
        device=options.device,
        workers=options.workers,
        tensorboard=options.tensorboard,
        on_epoch=_print_epoch,
        **settings,
    )
    if not result.is_first:
        return
    best = result.best
    print(f"\nbest: epoch {best.epoch}, {_metrics(best.metrics)}")
    print(f"{result.checkpoint}\n{result.output / 'report.html'}")


def _print_epoch(record: EpochRecord) -> None:
    losses = " ".join(f"{name} {value:.4g}" for name, value in record.losses.items())
    print(f"epoch {record.epoch}: {losses}")
    print(
        f"  rate {record.rate:.3g}, {record.images_per_second:.1f} images/s, "
        f"{record.memory_mb:.0f} MB, {_metrics(record.metrics)}",
        flush=True,
    )


def _metrics(metrics: dict[str, float]) -> str:
    shown = (f"{name} {metrics[name]:.2f}" for name in _SHOWN if name in metrics)
    return ", ".join(shown) or "not evaluated"
