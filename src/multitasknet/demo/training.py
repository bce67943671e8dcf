"""The whole product in one run, offline: make data, train, evaluate, predict, and tell it all."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
from PIL import Image

from ..data.layouts import read_dataset
from ..data.records import Record, Split, VehicleDataset
from ..device import choose_device
from ..evaluation.report import cmc_chart, retrieval_panels
from ..evaluation.run import evaluate
from ..hub.networks import create_network
from ..inference.predictor import Predictor
from ..ranking.metrics import evaluate_ranking
from ..report.charts import line_chart
from ..report.page import Panel, Shot, thumbnail, write_page
from ..synthetic import draw_overlay, synthesize
from ..training.finetuning import finetune
from ..training.history import EpochRecord
from ..vehicle.attributes import COLORS, TYPES, class_name
from .first_look import new_folder

logger = logging.getLogger(__name__)

_SAMPLES = 11
_PREDICTED = 6
_CHANCE_DRAWS = 20


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
    device: str | None = None,
    workers: int = 1,
    progress: bool = True,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
) -> DemoResult:
    """Make a data set, train on it, evaluate on unseen vehicles before and after, and report.

    Args:
        output: a new or empty folder.
        plan: how much to do.
        online: start from the card's weights, downloading them; else from random ones.
        device: where to compute, as in :func:`multitasknet.finetune`.
        workers: processes and threads that make and prepare images.
        progress: draw progress bars.
        on_epoch: called with each epoch's record.

    Raises:
        DemoError: the folder is not empty.
        MissingExtraError: the renderer is not installed; nothing has been written.
    """
    output = new_folder(output)
    choose_device(device)
    how: dict[str, Any] = {"workers": workers, "progress": progress}
    synthesize(
        output / "data",
        vehicles=plan.vehicles,
        images=plan.images,
        cameras=plan.cameras,
        pixels=plan.pixels,
        prior="real",
        **how,
    )
    dataset = read_dataset(output / "data")
    # The network as users create it, kept so that the same one is evaluated and trained.
    mindspore.set_seed(0)
    start = output / "before.ckpt"
    mindspore.save_checkpoint(create_network(weights="card" if online else None), str(start))
    load = partial(Predictor, size=(plan.size, plan.size), batch_size=32)
    before = evaluate(load(start), dataset, **how)
    training = finetune(
        dataset,
        output / "training",
        weights=str(start),
        size=plan.size,
        on_epoch=on_epoch,
        **how,
        **plan.settings,
    )
    trained = load(training.checkpoint)
    after = evaluate(trained, dataset, **how)
    chance = _chance(dataset)
    report = write_page(
        output / "report.html",
        "demo.html",
        title="MultiTaskNet demo",
        settings=after.settings,
        start=start,
        plan=plan,
        online=online,
        images=sum(map(len, dataset.splits)),
        unseen=len(set(dataset.query.vehicle_ids.tolist())),
        samples=_samples(dataset),
        losses=line_chart(training.history.losses, x_label="epoch", y_label="loss"),
        cmc=cmc_chart({"before training": before.ranking, "after": after.ranking}, max_rank=20),
        chance=chance,
        before=before,
        after=after,
        predictions=_predictions(trained, dataset),
        panels_before=retrieval_panels(before, dataset, each=1, top=8),
        panels_after=retrieval_panels(after, dataset, each=2, top=8),
    )
    return DemoResult(report, chance, before.metrics, after.metrics)


def _chance(dataset: VehicleDataset) -> dict[str, float]:
    """What guessing gives: the mean of random rankings, and the commonest colour and type."""
    query, gallery = dataset.query, dataset.gallery
    protocol = query.vehicle_ids, gallery.vehicle_ids, query.camera_ids, gallery.camera_ids
    draw = np.random.default_rng(0).random
    rankings = [
        evaluate_ranking(draw((len(query), len(gallery))), *protocol) for _ in range(_CHANCE_DRAWS)
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
    shots = (
        _shot(record, _truth(record), pose=record.keypoints if number % 2 else None)
        for number, record in enumerate(_spread(dataset.train, _SAMPLES))
    )
    return Panel("Training pictures, every other one with keypoints and surfaces", tuple(shots))


def _predictions(predictor: Predictor, dataset: VehicleDataset) -> Panel:
    """Some gallery pictures with what the network says; green where colour and type are right."""
    records = _spread(dataset.gallery, _PREDICTED)
    predictions = predictor.predict(
        [record.image for record in records], [record.keypoints for record in records]
    )
    shots = []
    for record, one in zip(records, predictions, strict=True):
        said = f"{one.color} {one.color_probability:.0%}, {one.type} {one.type_probability:.0%}"
        truth = _truth(record)
        verdict = "match" if truth == f"{one.color} {one.type}" else "miss"
        shots.append(_shot(record, f"{said} (is {truth})", verdict))
    return Panel("Predictions on vehicles that were not trained on", tuple(shots))


def _spread(split: Split, count: int) -> list[Record]:
    chosen = np.linspace(0, len(split) - 1, count).astype(int)
    return [split.records[index] for index in chosen]


def _shot(
    record: Record, caption: str, verdict: str = "", *, pose: np.ndarray | None = None
) -> Shot:
    with Image.open(record.image) as image:
        picture = image.convert("RGB") if pose is None else draw_overlay(image, pose)
    return Shot(thumbnail(np.asarray(picture)), caption, record.image.name, verdict)


def _truth(record: Record) -> str:
    # Synthetic vehicles have both.
    color = class_name(record.color_id or 0, COLORS, "color")
    return f"{color} {class_name(record.type_id or 0, TYPES, 'type')}"
