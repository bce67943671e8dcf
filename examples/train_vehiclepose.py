"""Training of VehiclePose, the light pose network, with PyTorch on generated vehicles.

    multitasknet synthesize --output ROOT --vehicles 2000 --pixels 144
    python examples/train_vehiclepose.py --data ROOT --validate ROOT --minutes 60 --output pose.pth
    multitasknet convert pose.pth pose.ckpt

Each ROOT is in the PAMTRI layout. ``visibility_train.csv`` says which keypoints can be seen;
without it a confidence of 0.5 and more does. ``view_train.csv`` (image, yaw, elevation, roll,
distance; yaw in degrees, 0 seen from the front, 90 from the left) says which way a vehicle faces;
without it the network does not learn that.

The same command goes on where it was interrupted. For what each weight does, see the constants.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from augmentation import covered, read_pixels, relit, retaken, saturated
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from torch_training import (
    MEAN,
    STD,
    Plan,
    Training,
    normalized,
    start_anew_with_environment,
    train,
    write_weights,
)

import multitasknet

# What the network is; as multitasknet/models/vehiclepose has it, names included.
KEYPOINTS, DIRECTIONS, STRIDE = 36, 16, 4
WIDTHS, BLOCKS, FEATURES = (24, 48, 96, 160, 224), (2, 2, 2, 2), 64
FRAME, REACH = 1.05, 3
GROUND = tuple(round(255 * value) for value in MEAN)
MIRRORED = np.roll(np.arange(KEYPOINTS), KEYPOINTS // 2)
OTHER_END = np.array([1, 0, 6, 7, 8, 9, 2, 3, 4, 5, 17, 16, 15, 14, 13, 12, 11, 10])
HALF_TURN = MIRRORED[np.concatenate((OTHER_END, OTHER_END + KEYPOINTS // 2))]

# What it is taught.
SIGMA, HIDDEN_WEIGHT = 1.0, 0.3
VISIBILITY_WEIGHT, FACING_WEIGHT = 0.5, 0.3
VISIBLE, HIDDEN = 0, 1
THRESHOLDS = (0.05, 0.1, 0.2)


# The network


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, nn.BatchNorm2d(outputs)]


def conv_norm_relu(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(*conv_norm(inputs, outputs, 3, stride), nn.ReLU(inplace=True))


class Block(nn.Module):
    """Two 3x3 convolutions around which the input goes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(inputs, outputs, 3, stride)
        self.conv2, self.bn2 = conv_norm(outputs, outputs, 3)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*conv_norm(inputs, outputs, 1, stride))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x), inplace=True)


class VehiclePose(nn.Module):
    """From float32 ``[N, 3, H, W]`` to logits: facing, visibility and maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm_relu(3, WIDTHS[0], stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(
                Block(inputs, outputs, 2), *(Block(outputs, outputs, 1) for _ in range(blocks - 1))
            )
            for inputs, outputs, blocks in zip(WIDTHS, WIDTHS[1:], BLOCKS, strict=False)
        )
        self.laterals = nn.ModuleList(
            nn.Sequential(*conv_norm(width, FEATURES, 1)) for width in WIDTHS[1:]
        )
        self.merges = nn.ModuleList(conv_norm_relu(FEATURES, FEATURES) for _ in WIDTHS[1:])
        self.heatmap_head = nn.Conv2d(FEATURES, KEYPOINTS, 1)
        self.visibility_head = nn.Linear(WIDTHS[-1], KEYPOINTS)
        self.facing_head = nn.Linear(WIDTHS[-1], DIRECTIONS)
        for head in (self.heatmap_head, self.visibility_head, self.facing_head):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels = [self.stem(x)]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        summary = levels[-1].mean((2, 3))
        y = self.merges[-1](self.laterals[-1](levels[-1]))
        for merge, lateral, level in zip(
            self.merges[-2::-1], self.laterals[-2::-1], levels[-2:0:-1], strict=True
        ):
            y = merge(lateral(level) + functional.interpolate(y, scale_factor=2.0))
        return self.facing_head(summary), self.visibility_head(summary), self.heatmap_head(y)


# The data


@dataclass(frozen=True, eq=False)
class Vehicle:
    """A picture in memory, and what is known of it.

    Attributes:
        pixels: uint8 ``[H, W, 3]``, RGB.
        points: float32 ``[36, 2]``, in its pixels; integers are pixel centres.
        hidden: int8 ``[36]``: 0 visible, 1 hidden by the vehicle itself, 2 otherwise or outside.
        yaw: in degrees, or NaN.
    """

    pixels: np.ndarray
    points: np.ndarray
    hidden: np.ndarray
    yaw: float


def read_vehicles(root: Path, *, held_out: bool = False, side: int | None = None) -> list[Vehicle]:
    """The labelled pictures of the train split, or of the others if there are any.

    Those whose longer side is above ``side`` are made smaller.
    """
    dataset = multitasknet.read_dataset(root, check=False)
    splits = [split for split in dataset.splits if (split.name != "train") == held_out]
    vehicles = []
    for split in splits or dataset.splits:
        kind = "test" if split.name == "gallery" else split.name
        yaws = read_yaws(root / f"view_{kind}.csv")
        for record in split.records:
            if record.keypoints is None:
                continue
            codes = np.where(record.keypoints[:, 2] >= 0.5, VISIBLE, HIDDEN)
            found = Vehicle(
                read_pixels(record.image),
                record.keypoints[:, :2],
                codes if record.visibility is None else record.visibility,
                yaws.get(record.image.name, math.nan),
            )
            vehicles.append(found if side is None else made_smaller(found, side))
    return vehicles


def read_yaws(path: Path) -> dict[str, float]:
    """By image, in degrees; empty without the file."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {image: float(yaw) for image, yaw, *_ in csv.reader(file)}


def made_smaller(vehicle: Vehicle, side: int) -> Vehicle:
    height, width = vehicle.pixels.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return vehicle
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    pixels = cv2.resize(vehicle.pixels, size, interpolation=cv2.INTER_AREA)
    points = (vehicle.points + 0.5) * np.array([size[0] / width, size[1] / height]) - 0.5
    return Vehicle(pixels, points.astype(np.float32), vehicle.hidden, vehicle.yaw)


# Augmentation


def augmented(vehicle: Vehicle, size: int, rng: np.random.Generator) -> Vehicle:
    """The vehicle as it could have been seen otherwise, in an input of ``size`` pixels a side."""
    pixels, shown, points, hidden, yaw = warped(vehicle, size, rng)
    if rng.random() < 0.35:
        pixels, under = covered(pixels, points, rng)
        hidden = np.where(under, np.maximum(hidden, HIDDEN), hidden)
    if rng.random() < 0.85:
        pixels = relit(pixels, rng)
    if rng.random() < 0.4:
        pixels = recolored(pixels, rng)
    pixels = retaken(pixels, rng)
    # Around the picture nothing happens.
    pixels[shown == 0] = GROUND
    return Vehicle(pixels, points, hidden, yaw)


def warped(
    vehicle: Vehicle, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Turned, scaled, moved, stretched and mirrored into the input; points outside are hidden.

    The pixels, which of them show the picture, and what a :class:`Vehicle` has beside its pixels.
    """
    height, width = vehicle.pixels.shape[:2]
    scale = size / (FRAME * max(height, width)) * np.exp(np.clip(rng.normal(0, 0.13), -0.3, 0.3))
    stretch = np.exp(np.clip(rng.normal(0, 0.06), -0.15, 0.15))
    angle = np.radians(np.clip(rng.normal(0, 7), -20, 20)) * (rng.random() < 0.7)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turn = turn @ np.diag([scale * stretch, scale / stretch])
    points, hidden, yaw = vehicle.points, vehicle.hidden, vehicle.yaw
    if rng.random() < 0.5:
        points = (np.array([width - 1, 0]) + points * np.array([-1, 1]))[MIRRORED]
        hidden, yaw = hidden[MIRRORED], -yaw
        mirror = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]], np.float64)
    else:
        mirror = np.eye(3)
    center = np.full(2, (size - 1) / 2) + np.clip(rng.normal(0, 0.035, 2), -0.1, 0.1) * size
    shift = center - turn @ np.array([(width - 1) / 2, (height - 1) / 2])
    transform = np.column_stack((turn, shift)) @ mirror
    pixels = cv2.warpAffine(vehicle.pixels, transform, (size, size), borderValue=GROUND)
    everywhere = np.full((height, width), 255, np.uint8)
    shown = cv2.warpAffine(everywhere, transform, (size, size), flags=cv2.INTER_NEAREST)
    points = (points @ turn.T + shift).astype(np.float32)
    inside = ((points > -0.5) & (points < size - 0.5)).all(1)
    return pixels, shown, points, np.where(inside, hidden, np.maximum(hidden, HIDDEN)), yaw


def recolored(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """More or less colour, down to none, or another order of the channels."""
    if rng.random() < 0.15:
        return np.ascontiguousarray(pixels[..., rng.permutation(3)])
    return saturated(pixels, 0.0 if rng.random() < 0.3 else rng.uniform(0.2, 1.6))


class Batches(Dataset):
    """The batches of a training by their number, so that any step can be made again."""

    def __init__(self, vehicles: list[Vehicle], *, size: int, batch: int, seed: int) -> None:
        self.vehicles, self.size, self.batch, self.seed = vehicles, size, batch, seed

    def __getitem__(self, step: int) -> tuple[np.ndarray, ...]:
        """uint8 ``[B, S, S, 3]``, points ``[B, 36, 2]``, hidden ``[B, 36]``, yaw ``[B]``."""
        made = []
        for place in range(step * self.batch, (step + 1) * self.batch):
            epoch, index = divmod(place, len(self.vehicles))
            order = self._order(epoch)
            rng = np.random.default_rng((self.seed, place))
            made.append(augmented(self.vehicles[order[index]], self.size, rng))
        return (
            np.stack([one.pixels for one in made]),
            np.stack([one.points for one in made]),
            np.stack([one.hidden for one in made]),
            np.array([one.yaw for one in made], np.float32),
        )

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, 2**32 + epoch)).permutation(len(self.vehicles))


# Losses


def map_loss(maps: Tensor, points: Tensor, hidden: Tensor) -> Tensor:
    """Cross entropy with a Gaussian around each keypoint in the frame, averaged by weight."""
    height, width = maps.shape[2:]
    cells = (points + 0.5) / STRIDE - 0.5
    inside = ((cells > -0.5) & (cells < torch.tensor([width, height]).to(cells) - 0.5)).all(2)
    weights = torch.where(hidden == VISIBLE, 1.0, HIDDEN_WEIGHT) * inside
    across, down = (gaussians(cells[..., axis], count) for axis, count in ((0, width), (1, height)))
    # The targets' maps are products: two sums do for the sum over all cells.
    expected = ((maps @ across[..., None])[..., 0] * down).sum(2)
    losses = maps.flatten(2).logsumexp(2) - expected
    return (losses * weights).sum() / weights.sum().clamp(min=1)


def gaussians(centers: Tensor, cells: int) -> Tensor:
    """``[B, 36]`` to ``[B, 36, cells]``, each of which sums up to 1."""
    distances = torch.arange(cells, device=centers.device) - centers[..., None]
    return (distances.square() / (-2 * SIGMA**2)).softmax(2)


def facing_loss(logits: Tensor, yaw: Tensor) -> Tensor:
    """Cross entropy with the two directions next to the yaw, where it is known."""
    known = ~yaw.isnan()
    if not known.any():
        return logits.sum() * 0
    place = (yaw[known] * (DIRECTIONS / 360)) % DIRECTIONS
    lower = place.floor()
    upper_share = place - lower
    classes = functional.log_softmax(logits[known], 1)
    one, other = (classes.gather(1, (lower.long() + k)[:, None] % DIRECTIONS)[:, 0] for k in (0, 1))
    return -((1 - upper_share) * one + upper_share * other).mean()


def total_loss(outputs: tuple[Tensor, Tensor, Tensor], batch: list[Tensor]) -> Tensor:
    facing, visibility, maps = (one.float() for one in outputs)
    _, points, hidden, yaw = batch
    seen = functional.binary_cross_entropy_with_logits(visibility, (hidden == VISIBLE).float())
    loss = map_loss(maps, points, hidden) + VISIBILITY_WEIGHT * seen
    return loss + FACING_WEIGHT * facing_loss(facing, yaw)


# Validation, with the package's preprocessing and decoding written once more for PyTorch


def place(vehicle: Vehicle, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The input, float32 ``[S, S, 3]``, and its pixels' scale and offset in the picture's."""
    height, width = vehicle.pixels.shape[:2]
    scale = size / max(height, width) / FRAME
    inner = np.array([max(2 * round(side * scale / 2), 2) for side in (width, height)])
    left, top = first = (size - inner) // 2
    fitted = cv2.resize(vehicle.pixels, inner.tolist(), interpolation=cv2.INTER_AREA)
    x = np.zeros((size, size, 3), np.float32)
    x[top : top + inner[1], left : left + inner[0]] = (fitted / 255 - MEAN) / STD
    return x, np.array([width, height]) / inner, first


def find_points(maps: np.ndarray) -> np.ndarray:
    """Logits ``[B, 36, h, w]`` to the probability's centre around each peak, in cells."""
    height, width = maps.shape[2:]
    rows, columns = np.divmod(maps.reshape(*maps.shape[:2], -1).argmax(2), width)
    near = (np.abs(np.arange(height) - rows[..., None]) <= REACH)[..., :, None] & (
        np.abs(np.arange(width) - columns[..., None]) <= REACH
    )[..., None, :]
    window = np.exp(maps - maps.max((2, 3), keepdims=True)) * near
    window /= window.sum((2, 3), keepdims=True)
    x = (window.sum(2) * np.arange(width)).sum(2)
    y = (window.sum(3) * np.arange(height)).sum(2)
    return np.stack((x, y), 2)


@torch.inference_mode()
def validate(network: nn.Module, vehicles: list[Vehicle], size: int) -> dict[str, float]:
    """PCK of visible keypoints by the picture's longer side, and more, in percent."""
    device = next(network.parameters()).device
    network.eval()
    errors, turned, visible, agrees = [], [], [], []
    for start in range(0, len(vehicles), 64):
        chosen = vehicles[start : start + 64]
        placed = [place(vehicle, size) for vehicle in chosen]
        x = torch.from_numpy(np.stack([one[0] for one in placed])).permute(0, 3, 1, 2)
        _, visibility, maps = (one.float().cpu().numpy() for one in network(x.to(device)))
        for vehicle, (_, scale, first), cells, seen in zip(
            chosen, placed, find_points(maps), visibility > 0, strict=True
        ):
            found = ((cells + 0.5) * STRIDE - first) * scale - 0.5
            side = max(vehicle.pixels.shape[:2])
            errors.append(np.linalg.norm(found - vehicle.points, axis=1) / side)
            turned.append(np.linalg.norm(found - vehicle.points[HALF_TURN], axis=1) / side)
            visible.append(vehicle.hidden == VISIBLE)
            agrees.append(seen == visible[-1])
    error, other, is_visible = np.array(errors), np.array(turned), np.array(visible)
    metrics = {f"PCK@{one}": (error[is_visible] <= one).mean() for one in THRESHOLDS}
    metrics["hidden PCK@0.1"] = (error[~is_visible] <= 0.1).mean()
    weights = is_visible.astype(float)
    metrics["half turns"] = ((other * weights).sum(1) < (error * weights).sum(1)).mean()
    metrics["visibility"] = np.mean(agrees)
    return {name: 100 * float(value) for name, value in metrics.items()}


# Training


def loss_of(network: nn.Module, batch: list[Tensor]) -> Tensor:
    return total_loss(network(normalized(batch[0])), batch)


def plan_of(options: argparse.Namespace, vehicles: int) -> Plan:
    facts = [options.size, options.batch_size, options.seed, options.learning_rate, vehicles]
    return Plan(
        state=options.output.with_suffix(".state"),
        key=json.dumps(facts),
        learning_rate=options.learning_rate,
        device=options.device,
        minutes=math.inf if options.steps else options.minutes,
        steps=options.steps or math.inf,
        workers=options.workers,
    )


def sidecar_of(
    training: Training, metrics: dict[str, float], options: argparse.Namespace
) -> dict[str, Any]:
    origin = {
        "script": Path(__file__).name,
        "data": [root.name for root in options.data],
        "seed": options.seed,
        "steps": training.step,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "minutes": round(training.seconds / 60, 1),
        "torch": torch.__version__,
    }
    return {
        "format": 1,
        "network": "vehiclepose",
        "size": [options.size, options.size],
        "pose_convention": "visibility",
        **{f"{kind}_ids": [] for kind in ("vehicle", "color", "type")},
        "metrics": metrics,
        "origin": origin,
    }


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="to train on")
    parser.add_argument("--validate", type=Path, help="its query and test parts, or all of it")
    parser.add_argument("--output", type=Path, default=Path("vehiclepose.pth"))
    parser.add_argument("--minutes", type=float, default=60, help="of training in all (60)")
    parser.add_argument("--steps", type=int, help="instead of minutes")
    parser.add_argument("--size", type=int, default=128, help="side of the input (128)")
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that make batches (1)")
    parser.add_argument("--threads", type=int, help="of PyTorch (all cores)")
    parser.add_argument("--cache-side", type=int, help="pixels kept (9/8 of the input)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> None:
    start_anew_with_environment()
    options = read_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    side = options.cache_side or options.size * 9 // 8
    vehicles = [one for root in options.data for one in read_vehicles(root, side=side)]
    print(f"{len(vehicles)} pictures", flush=True)
    batches = Batches(vehicles, size=options.size, batch=options.batch_size, seed=options.seed)
    plan = plan_of(options, len(vehicles))
    training = Training.of(VehiclePose(), plan)
    train(training, loss_of, batches, plan)
    metrics = {}
    if options.validate:
        held_out = read_vehicles(options.validate, held_out=True)
        metrics = validate(training.average, held_out, options.size)
        print(f"{len(held_out)} held-out pictures: ", end="")
        print(", ".join(f"{name} {value:.1f} %" for name, value in metrics.items()))
    sidecar = sidecar_of(training, metrics, options)
    write_weights(options.output, training.average.state_dict(), sidecar)
    print(options.output)


if __name__ == "__main__":
    main()
