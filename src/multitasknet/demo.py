"""The whole product in one run, offline: make data, train, evaluate, predict, and tell it all."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .data.layouts import read_dataset
from .data.records import Record, VehicleDataset
from .errors import MultiTaskNetError
from .evaluation.report import retrieval_panels
from .evaluation.results import Evaluation
from .evaluation.run import evaluate
from .files import make_folder
from .inference.predictor import Predictor
from .models.multitasknet.decoding import Prediction
from .ranking.metrics import evaluate_ranking
from .report.charts import line_chart
from .report.page import Panel, Shot, write_page
from .report.pictures import thumbnail
from .synthetic import draw_overlay, synthesize
from .training.history import EpochRecord
from .vehicle.attributes import COLORS, TYPES, class_name

logger = logging.getLogger(__name__)

_SAMPLES = 11
_PREDICTED = 6
_CHANCE_DRAWS = 20


class DemoError(MultiTaskNetError, ValueError):
    """A demo that cannot be run; says why."""


@dataclass(frozen=True)
class DemoPlan:
    """How much a demo does.

    Attributes:
        vehicles, images, cameras: of the synthetic data, see :func:`multitasknet.synthesize`.
        pixels: longer side of its pictures.
        size: side of the network's input.
        settings: of the training, see :class:`multitasknet.finetuning.Settings`.
    """

    vehicles: int
    images: int
    cameras: int
    pixels: int = 128
    size: int = 64
    settings: dict[str, Any] = field(default_factory=dict)


# From random weights, in minutes: a small input, a high rate, and attributes that weigh as much as
# identity, since they are learned first and bring the embedding along.
_FROM_SCRATCH = {
    "lr": 1e-3,
    "warmup": 0.5,
    "erase": 0.0,
    "triplet_weight": 0.3,
    "color_weight": 1.0,
    "type_weight": 1.0,
}
FULL = DemoPlan(60, 12, 6, settings=_FROM_SCRATCH | {"epochs": 14, "evaluate_every": 7})
QUICK = DemoPlan(30, 10, 5, settings=_FROM_SCRATCH | {"epochs": 5, "evaluate_every": 5})


@dataclass(frozen=True, eq=False)
class DemoResult:
    """What a demo came to.

    Attributes:
        report: the page.
        chance: metrics of a random ranking, and of always naming the commonest colour and type.
        before, after: metrics on vehicles that were not trained on, in percent.
    """

    report: Path
    chance: dict[str, float]
    before: dict[str, float]
    after: dict[str, float]


def run_demo(
    output: str | Path,
    plan: DemoPlan = FULL,
    *,
    online: bool = False,
    workers: int = 1,
    progress: bool = True,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
) -> DemoResult:
    """Make a data set, train on it, evaluate on unseen vehicles before and after, and report.

    Args:
        output: a new or empty folder.
        plan: how much to do.
        online: start from the card's weights, downloading them; else from random ones.
        workers: processes and threads that make and prepare images.
        progress: draw progress bars.
        on_epoch: called with each epoch's record.

    Raises:
        DemoError: the folder is not empty.
    """
    from .training.finetuning import finetune

    output = Path(output)
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise DemoError(f"{output}: something is there already; give a new or empty folder")
    make_folder(output)
    synthesize(
        output / "data",
        vehicles=plan.vehicles,
        images=plan.images,
        cameras=plan.cameras,
        pixels=plan.pixels,
        workers=workers,
        progress=progress,
    )
    dataset = read_dataset(output / "data")
    start = _starting_weights(output, online)
    before = _evaluate(start, dataset, plan, workers, progress)
    training = finetune(
        dataset,
        output / "training",
        weights=str(start),
        size=plan.size,
        workers=workers,
        progress=progress,
        on_epoch=on_epoch,
        **plan.settings,
    )
    after = _evaluate(training.checkpoint, dataset, plan, workers, progress)
    chance = _chance(dataset)
    losses = {
        name: [(record.epoch, record.losses[name]) for record in training.history.epochs]
        for name in training.history.epochs[0].losses
    }
    report = write_page(
        output / "report.html",
        "demo.html",
        title="MultiTaskNet demo",
        settings=after.settings,
        start=start,
        plan=plan,
        online=online,
        images=sum(len(split) for split in dataset.splits),
        unseen=len(set(dataset.query.vehicle_ids.tolist())),
        samples=_samples(dataset),
        losses=line_chart(losses, x_label="epoch", y_label="loss"),
        cmc=_cmc_chart(before, after),
        chance=chance,
        before=before.metrics,
        after=after.metrics,
        predictions=_predictions(training.checkpoint, dataset, plan),
        panels_before=retrieval_panels(before, dataset, each=1, top=8),
        panels_after=retrieval_panels(after, dataset, each=2, top=8),
        color=after.color,
        type=after.type,
    )
    return DemoResult(report, chance, before.metrics, after.metrics)


def _starting_weights(output: Path, online: bool) -> Path:
    """The network as users create it, kept so that the same one is evaluated and trained."""
    import mindspore

    from .hub.networks import create_network

    mindspore.set_seed(0)
    network = create_network(weights="card" if online else None)
    path = output / "before.ckpt"
    mindspore.save_checkpoint(network, str(path))
    return path


def _evaluate(
    weights: Path, dataset: VehicleDataset, plan: DemoPlan, workers: int, progress: bool
) -> Evaluation:
    predictor = Predictor(weights, size=(plan.size, plan.size), batch_size=32)
    return evaluate(predictor, dataset, workers=workers, progress=progress)


def _chance(dataset: VehicleDataset) -> dict[str, float]:
    """What guessing gives: the mean of random rankings, and the commonest colour and type."""
    query, gallery = dataset.query, dataset.gallery
    rng = np.random.default_rng(0)
    rankings = [
        evaluate_ranking(
            rng.random((len(query), len(gallery))),
            query.vehicle_ids,
            gallery.vehicle_ids,
            query.camera_ids,
            gallery.camera_ids,
        )
        for _ in range(_CHANCE_DRAWS)
    ]
    records = (*query.records, *gallery.records)
    return {
        "mAP": 100 * float(np.mean([ranking.mAP for ranking in rankings])),
        "Rank-1": 100 * float(np.mean([ranking.rank(1) for ranking in rankings])),
        "color": 100 * _commonest([record.color_id for record in records]),
        "type": 100 * _commonest([record.type_id for record in records]),
    }


def _commonest(ids: list[int | None]) -> float:
    _, counts = np.unique([raw for raw in ids if raw is not None], return_counts=True)
    return float(counts.max() / counts.sum())


def _samples(dataset: VehicleDataset) -> Panel:
    """Training pictures from all over the split, every other one with its labels drawn in."""
    records = dataset.train.records
    chosen = np.linspace(0, len(records) - 1, _SAMPLES).astype(int)
    shots = []
    for number, index in enumerate(chosen.tolist()):
        record = records[index]
        with Image.open(record.image) as image:
            picture = draw_overlay(image, record.keypoints) if number % 2 else image.convert("RGB")
        shots.append(Shot(thumbnail(np.asarray(picture)), _truth(record), record.image.name))
    return Panel("Training pictures, every other one with keypoints and surfaces", tuple(shots))


def _predictions(weights: Path, dataset: VehicleDataset, plan: DemoPlan) -> Panel:
    """Some gallery pictures with what the network says; green where colour and type are right."""
    records = dataset.gallery.records
    chosen = [records[i] for i in np.linspace(0, len(records) - 1, _PREDICTED).astype(int)]
    predictor = Predictor(weights, size=(plan.size, plan.size))
    images = [record.image for record in chosen]
    predictions = predictor.predict(images, [record.keypoints for record in chosen])
    shots = tuple(_predicted(*pair) for pair in zip(chosen, predictions, strict=True))
    return Panel("Predictions on vehicles that were not trained on", shots)


def _predicted(record: Record, prediction: Prediction) -> Shot:
    with Image.open(record.image) as image:
        picture = thumbnail(np.asarray(image.convert("RGB")))
    predicted = (
        f"{prediction.color} {prediction.color_probability:.0%}, "
        f"{prediction.type} {prediction.type_probability:.0%}"
    )
    truth = _truth(record)
    right = truth == f"{prediction.color} {prediction.type}"
    return Shot(
        picture, f"{predicted} (is {truth})", record.image.name, "match" if right else "miss"
    )


def _truth(record: Record) -> str:
    # Synthetic vehicles have both.
    color = class_name(record.color_id or 0, COLORS, "color")
    return f"{color} {class_name(record.type_id or 0, TYPES, 'type')}"


def _cmc_chart(before: Evaluation, after: Evaluation) -> object:
    curves = {"before training": before.ranking, "after": after.ranking}
    return line_chart(
        {name: list(enumerate(100 * one.cmc[:20], start=1)) for name, one in curves.items()},
        x_label="k",
        y_label="Rank-k, percent",
        y_limits=(0, 102),
    )
