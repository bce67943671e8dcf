"""What the trainings of the identity networks share: pictures, batches, losses and validation.

The losses compare directions: a cosine classifier of the identities (Wang et al., CosFace, CVPR
2018) beside a comparison within the batch (Khosla et al., Supervised Contrastive Learning, NeurIPS
2020), whose vehicles are chosen so that several look alike.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from augmentation import covered, read_pixels, relit, retaken, saturated
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from torch_training import Plan, Training

import multitasknet
from multitasknet.data.records import Record, Split
from multitasknet.ranking.distances import squared_distances
from multitasknet.ranking.metrics import evaluate_ranking
from multitasknet.vehicle.keypoints import MIRRORED_KEYPOINTS, NUM_KEYPOINTS, pose_or_zeros

COLORS, TYPES = (10, 9)

# What is taught.
# Scale and temperature make the first two's slopes some ten times steeper than the attributes'.
IDENTITY_WEIGHT, COMPARING_WEIGHT, COLOR_WEIGHT, TYPE_WEIGHT = 0.2, 0.3, 1.0, 1.0
SCALE, MARGIN, TEMPERATURE, SMOOTHING = 30.0, 0.2, 0.1, 0.1
AVERAGE = 0.998
ALIKE = 4  # vehicles of one look that meet in a batch
IMAGES = 4  # of each vehicle in a batch
STATISTICS = 1920  # pictures


# The data


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture in memory.

    Attributes:
        pixels: uint8 ``[H, W, 3]``, RGB.
        pose: float32 ``[36, 3]`` of x, y (its pixels) and confidence.
        vehicle, color, kind: classes from 0; colour and type -1 where they are unknown.
        look: what vehicles that are hard to tell apart have in common: model and colour where
            ``model_<split>.csv`` states the model, else type and colour.
        teacher: what another network makes of the picture, to learn from; None without one.
        views: what is kept of the picture as seen some times, a row each; None if nothing is.
    """

    pixels: np.ndarray
    pose: np.ndarray
    vehicle: int
    color: int
    kind: int
    look: tuple[str, int]
    teacher: np.ndarray | None = None
    views: np.ndarray | None = None


# A picture's arrays, as it is or augmented.
Made = tuple[np.ndarray, ...]


def training_records(roots: Iterable[Path]) -> list[Record]:
    sets = [multitasknet.read_dataset(root, ("train",), check=False) for root in roots]
    return [record for dataset in sets for record in dataset.train.records]


def read_pictures(records: Sequence[Record]) -> list[Picture]:
    """The records' pictures; vehicles of several data sets are counted through."""
    vehicles = {key: index for index, key in enumerate(dict.fromkeys(map(key_of, records)))}
    with ThreadPoolExecutor() as threads:
        pixels = threads.map(read_pixels, [record.image for record in records])
        return [
            Picture(
                one,
                pose_or_zeros(record.keypoints),
                vehicles[key_of(record)],
                class_of(record.color_id, COLORS),
                class_of(record.type_id, TYPES),
                look_of(record),
            )
            for one, record in zip(pixels, records, strict=True)
        ]


def class_of(raw: int | None, published: int) -> int:
    """The class of a colour or type by its id; -1 if it is unknown or of the user's own."""
    return raw - 1 if raw and raw <= published else -1


def count_vehicles(pictures: Sequence[Picture]) -> int:
    return 1 + max(one.vehicle for one in pictures)


def key_of(record: Record) -> tuple[str, int]:
    """A vehicle of one data set; others count theirs from 1 as well."""
    return record.origin.rpartition(":")[0], record.vehicle_id


def look_of(record: Record) -> tuple[str, int]:
    labels, vehicle = key_of(record)
    model = models_beside(labels).get(vehicle)
    return (f"type {record.type_id}" if model is None else f"{labels} {model}", record.color_id)


@cache
def models_beside(labels: str) -> dict[int, str]:
    """By vehicle, of ``model_<split>.csv`` beside ``label_<split>.csv``; empty without it."""
    path = Path(labels)
    path = path.with_name(path.name.replace("label_", "model_"))
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {int(row["vehicle"]): row["model"] for row in csv.DictReader(file)}


# What is seen


def augmented(
    picture: Picture, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """As it could have been taken otherwise: colours keep their names.

    uint8 ``[S, S, 3]``, and the pose in its pixels.
    """
    pixels, pose = warped(picture, size, rng)
    if rng.random() < 0.2:
        pixels, under = covered(pixels, pose[:, :2], rng)
        pose[under & (rng.random(NUM_KEYPOINTS) < 0.5), 2] *= 0.4
    if rng.random() < 0.5:
        pixels = relit(pixels, rng)
    if rng.random() < 0.3:
        pixels = saturated(pixels, rng.uniform(0.5, 1.5))
    if rng.random() < 0.5:
        pixels = retaken(pixels, rng)
    return pixels, pose


def warped(picture: Picture, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cut out a little otherwise, turned and mirrored, in ``size`` pixels a side."""
    pixels, pose = fitted(picture, size)
    if rng.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
        pose[:, 0] = size - 1 - pose[:, 0]
        pose = pose[MIRRORED_KEYPOINTS]
    angle = rng.normal(0, 4)
    zoom = np.exp(np.clip(rng.normal(0.02, 0.08, 2), -0.2, 0.25))
    middle = (size - 1) / 2
    transform = cv2.getRotationMatrix2D((middle, middle), angle, 1)
    transform = np.diag(zoom) @ transform
    transform[:, 2] += middle * (1 - zoom) + np.clip(rng.normal(0, 0.03, 2), -0.1, 0.1) * size
    pixels = cv2.warpAffine(pixels, transform, (size, size), borderMode=cv2.BORDER_REPLICATE)
    pose[:, :2] = pose[:, :2] @ transform[:, :2].T + transform[:, 2]
    return pixels, pose


def fitted(picture: Picture, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Squeezed to ``size`` pixels a side, as the network sees it; a pose of its own."""
    height, width = picture.pixels.shape[:2]
    pixels = cv2.resize(picture.pixels, (size, size), interpolation=cv2.INTER_LINEAR)
    scale = np.array([size / width, size / height, 1], np.float32)
    return pixels, picture.pose * scale


class Batches(Dataset):
    """The batches of a training by their number, so that any step can be made again.

    Args:
        make: a picture's arrays at a size, changed at random.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        make: Callable[[Picture, int, np.random.Generator], Made],
        *,
        stages: tuple[tuple[int, int], ...],
        batch: int,
        seed: int,
    ) -> None:
        self.pictures, self.make = pictures, make
        self.stages, self.batch, self.seed = stages, batch, seed
        self.of_vehicle: dict[int, list[int]] = defaultdict(list)
        self.of_look: dict[tuple[str, int], list[int]] = defaultdict(list)
        for index, one in enumerate(pictures):
            if one.vehicle not in self.of_vehicle:
                self.of_look[one.look].append(one.vehicle)
            self.of_vehicle[one.vehicle].append(index)
        self.vehicles = list(self.of_vehicle)
        if not 2 <= batch // IMAGES <= len(self.vehicles):
            raise SystemExit(
                f"a batch of {batch} takes {batch // IMAGES} vehicles of {IMAGES} pictures each, "
                f"and the data have {len(self.vehicles)}; give --batch-size "
                f"{2 * IMAGES} to {max(len(self.vehicles), 2) * IMAGES}"
            )

    def __getitem__(self, step: int) -> Made:
        """What is made of the pictures, and vehicle, colour and type, int64 ``[B, 3]``."""
        rng = np.random.default_rng((self.seed, step))
        size = self.size_at(step)
        chosen = [self.pictures[index] for index in self._draw(rng)]
        made = [self.make(one, size, rng) for one in chosen]
        labels = np.array([(one.vehicle, one.color, one.kind) for one in chosen])
        return (*(np.stack(parts) for parts in zip(*made, strict=True)), labels)

    def size_at(self, step: int) -> int:
        for size, steps in self.stages:
            if step < steps:
                return size
            step -= steps
        return self.stages[-1][0]

    def _draw(self, rng: np.random.Generator) -> list[int]:
        """Indices of IMAGES pictures of each vehicle."""
        chosen: list[int] = []
        count = self.batch // IMAGES
        while len(chosen) < count:
            first = self.vehicles[rng.integers(len(self.vehicles))]
            alike = self.of_look[self.pictures[self.of_vehicle[first][0]].look]
            group = rng.choice(alike, min(ALIKE, len(alike), count - len(chosen)), replace=False)
            chosen += [one for one in group.tolist() if one not in chosen]
        return [index for vehicle in chosen for index in self._draw_images(vehicle, rng)]

    def _draw_images(self, vehicle: int, rng: np.random.Generator) -> list[int]:
        own = self.of_vehicle[vehicle]
        return rng.choice(own, IMAGES, replace=len(own) < IMAGES).tolist()


# Losses


def recognition_loss(
    directions: Tensor, color: Tensor, kind: Tensor, classifier: Tensor, labels: Tensor
) -> Tensor:
    """Of embeddings of length 1, logits, the identities' weights and the labels ``[B, 3]``."""
    vehicles, colors, kinds = labels.unbind(1)
    return (
        IDENTITY_WEIGHT * identity_loss(directions, classifier, vehicles)
        + COMPARING_WEIGHT * comparing_loss(directions, vehicles)
        + COLOR_WEIGHT * attribute_loss(color, colors)
        + TYPE_WEIGHT * attribute_loss(kind, kinds)
    )


def attribute_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """The mean cross entropy of the pictures whose class is known."""
    losses = functional.cross_entropy(
        logits, classes, ignore_index=-1, label_smoothing=SMOOTHING, reduction="none"
    )
    return losses.sum() / (classes >= 0).sum().clamp(min=1)


def identity_loss(directions: Tensor, weight: Tensor, vehicles: Tensor) -> Tensor:
    cosines = directions @ functional.normalize(weight).T
    right = functional.one_hot(vehicles, len(weight))
    return functional.cross_entropy(SCALE * (cosines - MARGIN * right), vehicles)


def comparing_loss(directions: Tensor, vehicles: Tensor) -> Tensor:
    itself = torch.eye(len(vehicles), dtype=torch.bool, device=vehicles.device)
    same = (vehicles[:, None] == vehicles) & ~itself
    logits = (directions @ directions.T / TEMPERATURE).masked_fill(itself, -torch.inf)
    shares = logits.log_softmax(1).masked_fill(~same, 0)
    return -(shares.sum(1) / same.sum(1).clamp(min=1)).mean()


# Statistics and validation


def unchanged(
    pictures: Sequence[Picture], size: int, make: Callable[[Picture, int], Made]
) -> Iterator[list[Tensor]]:
    """Batches of pictures as they are."""
    for start in range(0, len(pictures), 64):
        made = [make(one, size) for one in pictures[start : start + 64]]
        yield [torch.from_numpy(np.stack(parts)) for parts in zip(*made, strict=True)]


def some_of(pictures: Sequence[Picture], seed: int) -> list[Picture]:
    order = np.random.default_rng(seed).permutation(len(pictures))
    return [pictures[index] for index in order[:STATISTICS]]


def estimate_statistics(network: nn.Module, batches: Iterable[list[Tensor]]) -> None:
    """Set the statistics of norms that learn to those of some pictures, as they are.

    Averaged weights have none of their own, and those of the last steps follow the stages slowly.
    """
    norms = nn.modules.batchnorm._BatchNorm
    learning = [one for one in network.train().modules() if one.training and isinstance(one, norms)]
    for norm in learning:
        norm.reset_running_stats()
        norm.momentum = None
    if learning:
        embed(network, batches, training=learning)


@torch.inference_mode()
def embed(
    network: nn.Module, batches: Iterable[list[Tensor]], *, training: Sequence[nn.Module] = ()
) -> list[np.ndarray]:
    """Embeddings, and colours and types as classes; some modules are left as in training."""
    network.eval()
    for module in training:
        module.train()
    device = next(network.parameters()).device
    found = []
    for batch in batches:
        embedding, color, kind = network(*network.inputs_of([one.to(device) for one in batch]))
        found.append((embedding, color.argmax(1), kind.argmax(1)))
    return [torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True)]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A data set's query and gallery.

    Attributes:
        splits: query and gallery.
        pictures: those of both.
    """

    splits: tuple[Split, Split]
    pictures: list[Picture]

    @classmethod
    def read(
        cls, root: Path, posed: Callable[[list[Record]], list[Record]] = lambda records: records
    ) -> HeldOut:
        dataset = multitasknet.read_dataset(root, ("query", "gallery"), check=False)
        records = posed([*dataset.query.records, *dataset.gallery.records])
        return cls((dataset.query, dataset.gallery), read_pictures(records))


def validate(
    network: nn.Module, held_out: HeldOut, batches: Iterable[list[Tensor]]
) -> dict[str, float]:
    """VeRi's protocol on query and gallery, and colour and type, in percent."""
    embeddings, colors, kinds = embed(network, batches)
    query, gallery = held_out.splits
    ranking = evaluate_ranking(
        squared_distances(*np.split(embeddings, [len(query)])),
        *(one.vehicle_ids for one in (query, gallery)),
        *(one.camera_ids for one in (query, gallery)),
    )
    metrics = {"mAP": ranking.mAP, "Rank-1": ranking.rank(1)}
    for name, found, attribute in (("color", colors, "color"), ("type", kinds, "kind")):
        true = np.array([getattr(one, attribute) for one in held_out.pictures])
        if (true >= 0).any():
            metrics[name] = np.mean((found == true)[true >= 0])
    return {name: 100 * float(value) for name, value in metrics.items()}


def print_metrics(root: Path, metrics: dict[str, float]) -> None:
    print(f"{root}: {', '.join(f'{name} {value:.1f} %' for name, value in metrics.items())}")


# A training's options, plan and sidecar


def stage(text: str) -> tuple[int, int]:
    size, _, steps = text.partition(":")
    return int(size), int(steps)


def options_parser(
    description: str,
    *,
    output: str,
    stages: tuple[tuple[int, int], ...],
    batch_size: int,
    learning_rate: float,
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="to train on")
    parser.add_argument("--validate", type=Path, nargs="+", default=[], help="query and test parts")
    parser.add_argument("--output", type=Path, default=Path(output), help=f"({output})")
    parser.add_argument(
        "--stages",
        type=stage,
        nargs="+",
        default=stages,
        help=f"SIDE:STEPS, one after the other ({' '.join(f'{a}:{b}' for a, b in stages)})",
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop then at the latest, slowly (never)"
    )
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that make batches (1)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def plan_of(options: argparse.Namespace, pictures: int, **more: Any) -> Plan:
    facts = [options.batch_size, options.seed, options.learning_rate, pictures]
    facts += [options.weights.name] if options.weights else []
    return Plan(
        state=options.output.with_suffix(".state"),
        key=json.dumps(facts),
        learning_rate=options.learning_rate,
        device=options.device,
        steps=sum(steps for _, steps in options.stages),
        minutes=options.minutes,
        workers=options.workers,
        average=AVERAGE,
        **more,
    )


def sidecar_of(
    script: str,
    facts: dict[str, Any],
    training: Training,
    metrics: dict[str, float],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """What multitasknet reads of the weights; ``facts`` are those of the network."""
    size = options.stages[-1][0]
    return {
        "format": 1,
        **facts,
        "size": [size, size],
        "pose_convention": "visibility",
        "colors": list(multitasknet.COLORS),
        "types": list(multitasknet.TYPES),
        "vehicle_ids": [],
        "color_ids": list(range(1, COLORS + 1)),
        "type_ids": list(range(1, TYPES + 1)),
        "metrics": metrics,
        "origin": {
            "script": script,
            "data": [root.name for root in options.data],
            "seed": options.seed,
            "weights": options.weights.name if options.weights else None,
            "stages": [f"{size}:{steps}" for size, steps in options.stages],
            "steps": training.step,
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
            "minutes": round(training.seconds / 60, 1),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if options.device == "cuda" else options.device,
        },
    }
