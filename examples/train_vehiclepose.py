"""Training of VehiclePose, the light pose network, with PyTorch on generated vehicles.

    multitasknet synthesize --output ROOT --vehicles 2000 --pixels 144
    python examples/train_vehiclepose.py --data ROOT --validate ROOT --minutes 60 --output pose.pth
    multitasknet convert pose.pth pose.ckpt

Each ROOT is in the PAMTRI layout. Beside ``label_train.csv`` two files are read if they are there:
``visibility_train.csv`` (image, then of each keypoint 0 visible, 1 hidden by the vehicle itself,
2 hidden otherwise or outside; without it a confidence of 0.5 and more is visible) and
``view_train.csv`` (image, yaw, elevation, roll, distance; degrees, yaw 0 is seen from the front and
90 from the left), without which the network does not learn which way a vehicle faces.

The same command goes on where it was interrupted. For what each weight does, see the constants.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

import multitasknet

# What the network is; as multitasknet/models/vehiclepose has it, names included.
KEYPOINTS, DIRECTIONS, STRIDE = 36, 16, 4
WIDTHS, BLOCKS, FEATURES = (24, 48, 96, 160, 224), (2, 2, 2, 2), 64
FRAME, REACH = 1.05, 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GROUND = tuple(round(255 * value) for value in MEAN)
MIRRORED = np.roll(np.arange(KEYPOINTS), KEYPOINTS // 2)
OTHER_END = np.array([1, 0, 6, 7, 8, 9, 2, 3, 4, 5, 17, 16, 15, 14, 13, 12, 11, 10])
HALF_TURN = MIRRORED[np.concatenate((OTHER_END, OTHER_END + KEYPOINTS // 2))]

# What it is taught.
SIGMA, HIDDEN_WEIGHT = 1.0, 0.3
VISIBILITY_WEIGHT, FACING_WEIGHT = 0.5, 0.3
WEIGHT_DECAY, WARM_UP, CLIP, EMA = 0.05, 0.05, 5.0, 0.9995
VISIBLE, HIDDEN = 0, 1
THRESHOLDS = (0.05, 0.1, 0.2)

# Freed memory goes back to the system page by page otherwise; and threads that wait by turning in a
# circle take the core from the one that they wait for, wherever something else runs beside them.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "OMP_WAIT_POLICY": "PASSIVE",
}
SECONDS_BETWEEN_STATES, SECONDS_BETWEEN_REPORTS = 60, 15


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
        hidden = read_rows(root / f"visibility_{kind}.csv")
        views = read_rows(root / f"view_{kind}.csv")
        for record in split.records:
            if record.keypoints is None:
                continue
            name = record.image.name
            codes = np.where(record.keypoints[:, 2] >= 0.5, VISIBLE, HIDDEN)
            yaw = views[name][0] if name in views else math.nan
            found = Vehicle(
                read_pixels(record.image),
                record.keypoints[:, :2],
                np.array(hidden.get(name, codes), np.int8),
                yaw,
            )
            vehicles.append(found if side is None else made_smaller(found, side))
    return vehicles


def read_rows(path: Path) -> dict[str, list[float]]:
    """Rows of a name and numbers, by name; a heading is passed over. Empty without the file."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row[0]: row[1:] for row in csv.reader(file) if row}
    return {name: list(map(float, row)) for name, row in rows.items() if is_number(row[0])}


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_pixels(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise SystemExit(f"{path}: no picture; fetch or make it again")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def made_smaller(vehicle: Vehicle, side: int) -> Vehicle:
    height, width = vehicle.pixels.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return vehicle
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    pixels = cv2.resize(vehicle.pixels, size, interpolation=cv2.INTER_AREA)
    points = (vehicle.points + 0.5) * np.array([size[0] / width, size[1] / height]) - 0.5
    return Vehicle(pixels, points.astype(np.float32), vehicle.hidden, vehicle.yaw)


# Augmentation. Each change takes and gives uint8 [H, W, 3]; the order is that of the world, the
# lens, the camera and the network.


def augmented(vehicle: Vehicle, size: int, rng: np.random.Generator) -> Vehicle:
    """The vehicle as it could have been seen otherwise, in an input of ``size`` pixels a side."""
    pixels, shown, points, hidden, yaw = warped(vehicle, size, rng)
    if rng.random() < 0.35:
        hidden = covered(pixels, points, hidden, rng)
    if rng.random() < 0.85:
        pixels = relit(pixels, rng)
    if rng.random() < 0.4:
        pixels = recolored(pixels, rng)
    if rng.random() < 0.5:
        pixels = coarser(pixels, rng)
    if rng.random() < 0.3:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 1.6))
    if rng.random() < 0.15:
        pixels = smeared(pixels, rng)
    if rng.random() < 0.3:
        noise = rng.standard_normal(pixels.shape, np.float32) * rng.uniform(1, 12)
        pixels = cv2.add(pixels, noise, dtype=cv2.CV_8U)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 92))]
        pixels = cv2.imdecode(cv2.imencode(".jpg", pixels, quality)[1], cv2.IMREAD_COLOR)
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


def covered(
    pixels: np.ndarray, points: np.ndarray, hidden: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Lay one or two boxes of one colour, or of another part of the picture, in it."""
    size = len(pixels)
    for _ in range(rng.integers(1, 3)):
        width, height = rng.integers(size // 16, size * 3 // 8, 2)
        left, top = rng.integers(-width // 2, size - width // 2), rng.integers(0, size - height)
        left, right = max(left, 0), min(left + width, size)
        if rng.random() < 0.5:
            pixels[top : top + height, left:right] = rng.integers(0, 256, 3)
        else:
            y, x = rng.integers(0, size - height), rng.integers(0, size - (right - left) + 1)
            part = pixels[y : y + height, x : x + right - left].copy()
            pixels[top : top + height, left:right] = part
        under = (points >= (left, top)) & (points < (right, top + height))
        hidden = np.where(under.all(1), np.maximum(hidden, HIDDEN), hidden)
    return hidden


def relit(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, gamma and the light's colour, by one table."""
    values = np.linspace(0, 1, 256)[:, None] ** np.exp(rng.normal(0, 0.25))
    gains = np.exp(rng.normal(0, 0.08, 3)) * np.exp(rng.normal(0, 0.2))
    values = (values - 0.5) * np.exp(rng.normal(0, 0.2)) + 0.5 + rng.normal(0, 0.06)
    table = np.clip(values * gains * 255, 0, 255).astype(np.uint8)
    return cv2.LUT(pixels, table[None])


def recolored(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """More or less colour, down to none, or another order of the channels."""
    if rng.random() < 0.15:
        return np.ascontiguousarray(pixels[..., rng.permutation(3)])
    gray = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.3:
        return gray
    share = rng.uniform(0.2, 1.6)
    return cv2.addWeighted(pixels, share, gray, 1 - share, 0)


def coarser(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As of a picture of a fraction of the pixels, enlarged."""
    size = len(pixels)
    small = max(round(size * np.exp(rng.uniform(np.log(0.2), np.log(0.9)))), 8)
    pixels = cv2.resize(pixels, (small, small), interpolation=cv2.INTER_AREA)
    how = cv2.INTER_LINEAR if rng.random() < 0.5 else cv2.INTER_CUBIC
    return cv2.resize(pixels, (size, size), interpolation=how)


def smeared(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moved while the shutter was open."""
    length = int(rng.integers(3, 10))
    kernel = np.zeros((length, length), np.float32)
    middle, angle = (length - 1) / 2, rng.uniform(0, np.pi)
    reach = middle * np.array([np.cos(angle), np.sin(angle)])
    ends = [tuple(np.rint(middle + sign * reach).astype(int).tolist()) for sign in (-1, 1)]
    cv2.line(kernel, *ends, 1)
    return cv2.filter2D(pixels, -1, kernel / kernel.sum())


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


def start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    os.nice(5)


# Losses


def normalized(pixels: Tensor) -> Tensor:
    """uint8 ``[B, S, S, 3]`` as the network takes it, the channels last in memory."""
    mean, std = (torch.tensor(values, device=pixels.device) for values in (MEAN, STD))
    return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)


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


@dataclass
class Training:
    """All that a training needs to go on: saved whole, or not at all."""

    network: VehiclePose
    average: VehiclePose
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path, key: str) -> None:
        part = path.with_name(f"{path.name}.part")
        parts = {name: getattr(self, name).state_dict() for name in self._parts}
        torch.save(parts | {"step": self.step, "seconds": self.seconds, "key": key}, part)
        part.replace(path)

    def load(self, path: Path, key: str) -> None:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["key"] != key:
            raise SystemExit(f"{path}: of a training with other options; remove it to start anew")
        for name in self._parts:
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]

    _parts = ("network", "average", "optimizer")

    def follow(self) -> None:
        """Move the average a little towards the network; norms' statistics are taken as they are.

        At first it moves faster, so that it forgets the initial values.
        """
        share = 1 - min(EMA, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            ours, theirs = list(self.average.parameters()), list(self.network.parameters())
            torch._foreach_lerp_(ours, theirs, share)
            for one, other in zip(self.average.buffers(), self.network.buffers(), strict=True):
                one.copy_(other)


def create_training(learning_rate: float, device: str) -> Training:
    network, average = VehiclePose(), VehiclePose()
    average.load_state_dict(network.state_dict())
    for one in (network, average):
        one.to(device=device, memory_format=torch.channels_last)
    decayed = [one for one in network.parameters() if one.ndim > 1]
    others = [one for one in network.parameters() if one.ndim <= 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, weight_decay=WEIGHT_DECAY)
    return Training(network, average.requires_grad_(False), optimizer)


def rate_at(progress: float) -> float:
    """The learning rate's share at a share of the training: up, then down along a cosine."""
    if progress < WARM_UP:
        return max(progress / WARM_UP, 0.01)
    return 0.5 + 0.5 * math.cos(math.pi * min((progress - WARM_UP) / (1 - WARM_UP), 1))


def train(training: Training, batches: Batches, options: argparse.Namespace) -> None:
    """Train until the minutes are spent or the steps are done."""
    device = options.device
    state, key = options.output.with_suffix(".state"), training_key(options, batches)
    if state.is_file():
        training.load(state, key)
        print(f"{state}: goes on at step {training.step}", flush=True)
    budget = 60 * options.minutes
    start = reported = saved = time.monotonic() - training.seconds
    losses: list[float] = []
    training.network.train()
    for batch in loaded(batches, training.step, options.workers):
        training.seconds = time.monotonic() - start
        progress = training.step / options.steps if options.steps else training.seconds / budget
        if progress >= 1:
            break
        for group in training.optimizer.param_groups:
            group["lr"] = options.learning_rate * rate_at(progress)
        batch = [one.to(device, non_blocking=True) for one in batch]
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            outputs = training.network(normalized(batch[0]))
        loss = total_loss(outputs, batch)
        training.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(training.network.parameters(), CLIP)
        training.optimizer.step()
        training.step += 1
        training.follow()
        losses.append(loss.item())
        now = time.monotonic()
        if now - reported > SECONDS_BETWEEN_REPORTS:
            speed = len(losses) * batches.batch / (now - reported)
            mean = sum(losses) / len(losses)
            print(
                f"{progress:6.1%}  step {training.step}  loss {mean:.3f}  {speed:.0f} samples/s",
                flush=True,
            )
            reported, losses = now, []
        if now - saved > SECONDS_BETWEEN_STATES:
            training.save(state, key)
            saved = now
    training.save(state, key)


def loaded(batches: Batches, first: int, workers: int) -> Iterator[list[Tensor]]:
    """Batches from that step on, without end, made ahead by other processes."""
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=range(first, sys.maxsize),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            worker_init_fn=start_worker,
        )
    )


def training_key(options: argparse.Namespace, batches: Batches) -> str:
    """What a training's state belongs to; more minutes or steps do not make it another one."""
    facts = [options.size, batches.batch, batches.seed, options.learning_rate]
    return json.dumps([*facts, len(batches.vehicles)])


def write_weights(
    training: Training, metrics: dict[str, float], options: argparse.Namespace
) -> None:
    """The averaged weights, and beside them what multitasknet reads of them."""
    part = options.output.with_name(f"{options.output.name}.part")
    torch.save({"state_dict": training.average.state_dict()}, part)
    part.replace(options.output)
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
    sidecar = {
        "format": 1,
        "network": "vehiclepose",
        "size": [options.size, options.size],
        "pose_convention": "visibility",
        **{f"{kind}_ids": [] for kind in ("vehicle", "color", "type")},
        "metrics": metrics,
        "origin": origin,
    }
    options.output.with_suffix(".json").write_text(json.dumps(sidecar, indent=1), encoding="utf-8")


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
    if not ENVIRONMENT.keys() <= os.environ.keys():
        # Read when a process starts, so this one starts anew; what is set already stays.
        os.execve(sys.executable, [sys.executable, *sys.argv], ENVIRONMENT | os.environ)
    options = read_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    side = options.cache_side or options.size * 9 // 8
    vehicles = [one for root in options.data for one in read_vehicles(root, side=side)]
    print(f"{len(vehicles)} pictures", flush=True)
    batches = Batches(vehicles, size=options.size, batch=options.batch_size, seed=options.seed)
    training = create_training(options.learning_rate, options.device)
    train(training, batches, options)
    metrics = {}
    if options.validate:
        held_out = read_vehicles(options.validate, held_out=True)
        metrics = validate(training.average, held_out, options.size)
        print(f"{len(held_out)} held-out pictures: ", end="")
        print(", ".join(f"{name} {value:.1f} %" for name, value in metrics.items()))
    write_weights(training, metrics, options)
    print(options.output)


if __name__ == "__main__":
    main()
