"""Training of MultiTaskNet, the segment variant, with PyTorch on generated vehicles.

    multitasknet synthesize --output ROOT --vehicles 5000 --images 8 --cameras 80 --pixels 144
    python examples/train_multitasknet.py --data ROOT --validate ROOT --pose synthetic \\
        --output identity.pth
    multitasknet convert identity.pth identity.ckpt --float16

Nine minutes of a large GPU and 16 cores that make its batches (``--workers 15``). Two cores see a
five-hundredth as many pictures in that time: there ``--batch-size 96 --stages 32:2200 64:1300`` is
a night's work, and the pictures are few and small.

With ``--pose synthetic`` the light pose network estimates the poses, as those will be that the
weights meet. Beside the identities' cosine classifier (Wang et al., CosFace, CVPR 2018) the
embedding learns by comparing within the batch (Khosla et al., Supervised Contrastive Learning,
NeurIPS 2020), whose vehicles are chosen so that several share colour and type; shallow statistics
are mixed between pictures (Zhou et al., Domain Generalization with MixStyle, ICLR 2021). The
classifier stays behind; the norm before the embedding's activation is written into ``fc_vid``. The
same command goes on where it was interrupted, for more steps if there are more. ``--weights``
starts from trained ones, for other vehicles than they were trained on.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
    Plan,
    Training,
    normalized,
    start_anew_with_environment,
    train,
    write_weights,
)

import multitasknet
from multitasknet.data.records import Record, Split
from multitasknet.models.multitasknet.preprocessing import MAP_MEAN, MAP_STD, pose_vector
from multitasknet.ranking.metrics import evaluate_embeddings
from multitasknet.vehicle.keypoints import MIRRORED_KEYPOINTS, NUM_KEYPOINTS, SURFACES
from multitasknet.vehicle.maps import MAP_SIZE, draw_segments

EMBEDDING, ATTRIBUTE, POSE = 1024, 512, 3 * NUM_KEYPOINTS
COLORS, TYPES = (10, 9)

# What it is taught.
# Scale and temperature make the first two's slopes some ten times steeper than the attributes'.
IDENTITY_WEIGHT, COMPARING_WEIGHT, COLOR_WEIGHT, TYPE_WEIGHT = 0.2, 0.3, 1.0, 1.0
LENGTH_WEIGHT = 0.1
SCALE, MARGIN, TEMPERATURE, SMOOTHING = 30.0, 0.2, 0.1, 0.1
MIXED, MIX_ALPHA = 0.2, 0.1
AVERAGE = 0.998
ALIKE = 4  # vehicles of one colour and type that meet in a batch
IMAGES = 4  # of each vehicle in a batch
STATISTICS = 1920  # pictures
STAGES = ((128, 5500),)  # side of the input, steps


# The network, with the names of NVlabs' files


class DenseLayer(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 128, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(128)
        self.conv2 = nn.Conv2d(128, 32, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(functional.relu(self.norm1(x), inplace=True))
        return torch.cat((x, self.conv2(functional.relu(self.norm2(y), inplace=True))), 1)


class MixStyle(nn.Module):
    """Gives each picture, while training, some of another one's contrast and brightness."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or torch.rand(()) > MIXED:
            return x
        mean = x.mean((2, 3), keepdim=True).detach()
        deviation = (x.var((2, 3), keepdim=True) + 1e-6).sqrt().detach()
        own = torch.distributions.Beta(MIX_ALPHA, MIX_ALPHA).sample((len(x), 1, 1, 1)).to(x.device)
        other = torch.randperm(len(x), device=x.device)
        mixed_deviation = own * deviation + (1 - own) * deviation[other]
        mixed_mean = own * mean + (1 - own) * mean[other]
        return (x - mean) / deviation * mixed_deviation + mixed_mean


def backbone(channels: int) -> nn.Sequential:
    """DenseNet-121; MixStyle has no values of its own, and no place in the names."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv0=nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False),
        norm0=nn.BatchNorm2d(64),
        relu0=nn.ReLU(inplace=True),
        pool0=nn.MaxPool2d(3, 2, padding=1),
    )
    features = 64
    for number, layers in enumerate((6, 12, 24, 16), start=1):
        block = {f"denselayer{i + 1}": DenseLayer(features + 32 * i) for i in range(layers)}
        parts[f"denseblock{number}"] = nn.Sequential(OrderedDict(block))
        features += 32 * layers
        if number < 4:
            parts[f"transition{number}"] = nn.Sequential(
                OrderedDict(
                    norm=nn.BatchNorm2d(features),
                    relu=nn.ReLU(inplace=True),
                    conv=nn.Conv2d(features, features // 2, 1, bias=False),
                    pool=nn.AvgPool2d(2, 2),
                )
            )
            features //= 2
        if number < 3:
            parts[f"mix{number}"] = MixStyle()
    parts["norm5"] = nn.BatchNorm2d(features)
    network = nn.Sequential(parts)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return network


class MultiTaskNet(nn.Module):
    """From ``x`` ``[N, 16, H, W]`` and ``p`` ``[N, 108]`` to embedding, colour and type."""

    def __init__(self, identities: int) -> None:
        super().__init__()
        self.base = backbone(3 + len(SURFACES))
        inputs = EMBEDDING + POSE
        self.fc_vid = nn.Linear(inputs, EMBEDDING)
        self.fc_vcolor = nn.Linear(inputs, ATTRIBUTE)
        self.fc_vtype = nn.Linear(inputs, ATTRIBUTE)
        self.classifier_vcolor = nn.Linear(ATTRIBUTE, COLORS)
        self.classifier_vtype = nn.Linear(ATTRIBUTE, TYPES)
        # For training alone.
        self.norm_vid = nn.BatchNorm1d(EMBEDDING)
        self.classifier_vid = nn.Linear(EMBEDDING, identities, bias=False)
        # Of no matter to cosines; but the smaller they are, the faster an optimizer turns them.
        nn.init.normal_(self.classifier_vid.weight, std=0.02)

    def forward(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = torch.cat((self.base(x).mean((2, 3)), p), 1)
        embedding = functional.leaky_relu(self.norm_vid(self.fc_vid(features)), 0.01)
        color = self.classifier_vcolor(functional.leaky_relu(self.fc_vcolor(features), 0.01))
        kind = self.classifier_vtype(functional.leaky_relu(self.fc_vtype(features), 0.01))
        return embedding, color, kind

    def published(self) -> dict[str, Tensor]:
        """The values under the published network's names, the embedding's norm written into it."""
        values = self.state_dict()
        norm = self.norm_vid
        gain = values["norm_vid.weight"] / (values["norm_vid.running_var"] + norm.eps).sqrt()
        shift = values["norm_vid.bias"] - values["norm_vid.running_mean"] * gain
        values["fc_vid.weight"] = values["fc_vid.weight"] * gain[:, None]
        values["fc_vid.bias"] = values["fc_vid.bias"] * gain + shift
        left_behind = ("norm_vid.", "classifier_vid.")
        return {name: one for name, one in values.items() if not name.startswith(left_behind)}

    def start_from(self, path: Path) -> None:
        """Take a file's values; the classifier of identities and the norm before it stay fresh."""
        weights = multitasknet.read_weights(path)
        arrays = weights.network.to_torch(weights.arrays)
        values = {name: torch.tensor(arrays[name]) for name in self.published()}
        self.load_state_dict(values, strict=False)


# The data


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture in memory.

    Attributes:
        pixels: uint8 ``[H, W, 3]``, RGB.
        pose: float32 ``[36, 3]`` of x, y (its pixels) and confidence.
        vehicle, color, kind: classes from 0.
    """

    pixels: np.ndarray
    pose: np.ndarray
    vehicle: int
    color: int
    kind: int


def read_pictures(records: list[Record], vehicles: dict[tuple[str, int], int]) -> list[Picture]:
    with ThreadPoolExecutor() as threads:
        pixels = threads.map(read_pixels, [record.image for record in records])
        return [
            Picture(
                one,
                record.keypoints,
                vehicles[key_of(record)],
                record.color_id - 1,
                record.type_id - 1,
            )
            for one, record in zip(pixels, records, strict=True)
        ]


def with_poses(records: list[Record], pose: str) -> list[Record]:
    """The records with poses that a network estimates; as they are with ``labels``."""
    if pose == "labels":
        return records
    estimator = multitasknet.PoseEstimator(pose, flip_test=False)
    poses = estimator.estimate([record.image for record in records])
    pairs = zip(records, poses, strict=True)
    return [replace(record, keypoints=found.keypoints) for record, found in pairs]


def read_training(roots: list[Path], pose: str) -> list[Picture]:
    """The training pictures of all sets, their vehicles counted through."""
    sets = [multitasknet.read_dataset(root, ("train",), check=False) for root in roots]
    records = with_poses([one for dataset in sets for one in dataset.train.records], pose)
    vehicles = {key: index for index, key in enumerate(dict.fromkeys(map(key_of, records)))}
    return read_pictures(records, vehicles)


def count_vehicles(pictures: list[Picture]) -> int:
    return 1 + max(one.vehicle for one in pictures)


def key_of(record: Record) -> tuple[str, int]:
    """A vehicle of one data set; others count theirs from 1 as well."""
    return record.origin.rpartition(":")[0], record.vehicle_id


def augmented(picture: Picture, size: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """As it could have been taken otherwise: colours keep their names.

    uint8 ``[S, S, 3]`` and ``[13, 64, 64]``, ``p`` ``[108]``.
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
    if rng.random() < 0.3:
        pose[:, :2] += rng.normal(0, 0.015 * size, (NUM_KEYPOINTS, 2))
    if rng.random() < 0.05:
        pose[:] = 0  # none is known
    return pixels, *pose_inputs(pose, size)


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


def pose_inputs(pose: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The segments, uint8 ``[13, 64, 64]``, and ``p``, float32 ``[108]``."""
    side = max(size, MAP_SIZE)
    scale = np.array([side / size, side / size, 1], np.float32)
    segments = draw_segments(pose * scale, width=side, height=side)
    return segments, pose_vector(pose.astype(np.float32), size, size)


class Batches(Dataset):
    """The batches of a training by their number, so that any step can be made again."""

    def __init__(
        self, pictures: list[Picture], *, stages: tuple[tuple[int, int], ...], batch: int, seed: int
    ) -> None:
        self.pictures, self.stages, self.batch, self.seed = pictures, stages, batch, seed
        self.of_vehicle: dict[int, list[int]] = defaultdict(list)
        self.of_class: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, one in enumerate(pictures):
            if one.vehicle not in self.of_vehicle:
                self.of_class[one.color, one.kind].append(one.vehicle)
            self.of_vehicle[one.vehicle].append(index)
        self.vehicles = list(self.of_vehicle)

    def __getitem__(self, step: int) -> tuple[np.ndarray, ...]:
        """Pixels, segments, ``p``, and vehicle, colour and type, int64 ``[B, 3]``."""
        rng = np.random.default_rng((self.seed, step))
        size = self.size_at(step)
        chosen = [self.pictures[index] for index in self._draw(rng)]
        made = [augmented(one, size, rng) for one in chosen]
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
            first = self.pictures[
                self.of_vehicle[self.vehicles[rng.integers(len(self.vehicles))]][0]
            ]
            alike = self.of_class[first.color, first.kind]
            group = rng.choice(alike, min(ALIKE, len(alike), count - len(chosen)), replace=False)
            chosen += [one for one in group.tolist() if one not in chosen]
        return [index for vehicle in chosen for index in self._draw_images(vehicle, rng)]

    def _draw_images(self, vehicle: int, rng: np.random.Generator) -> list[int]:
        own = self.of_vehicle[vehicle]
        return rng.choice(own, IMAGES, replace=len(own) < IMAGES).tolist()


# Losses


def inputs_of(batch: list[Tensor]) -> tuple[Tensor, Tensor]:
    """``x`` and ``p`` of a batch."""
    pixels, segments, pose = batch[:3]
    maps = functional.interpolate(segments.float(), pixels.shape[1:3], mode="bilinear")
    maps = (maps / 255 - MAP_MEAN) / MAP_STD
    x = torch.cat((normalized(pixels), maps), 1)
    return x.contiguous(memory_format=torch.channels_last), pose


def loss_of(network: nn.Module, batch: list[Tensor]) -> Tensor:
    outputs = [one.float() for one in network(*inputs_of(batch))]
    # Cosines of three digits are too coarse for those scales.
    with torch.autocast(outputs[0].device.type, enabled=False):
        return loss_of_outputs(network, *outputs, batch[3])


def loss_of_outputs(
    network: nn.Module, embedding: Tensor, color: Tensor, kind: Tensor, labels: Tensor
) -> Tensor:
    vehicles, colors, kinds = labels.unbind(1)
    lengths = embedding.norm(dim=1)
    directions = embedding / lengths[:, None]
    return (
        IDENTITY_WEIGHT * identity_loss(directions, network.classifier_vid.weight, vehicles)
        + COMPARING_WEIGHT * comparing_loss(directions, vehicles)
        + COLOR_WEIGHT * functional.cross_entropy(color, colors, label_smoothing=SMOOTHING)
        + TYPE_WEIGHT * functional.cross_entropy(kind, kinds, label_smoothing=SMOOTHING)
        # Rankings go by plain distances, which then are those of the directions.
        + LENGTH_WEIGHT * (lengths / lengths.mean().detach() - 1).square().mean()
    )


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


def estimate_statistics(network: nn.Module, pictures: list[Picture], size: int) -> None:
    """Set the norms' statistics to those of some pictures, as they are.

    Averaged weights have none of their own, and those of the last steps follow the stages slowly.
    """
    norms = [one for one in network.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    chosen = pictures[:: max(len(pictures) // STATISTICS, 1)]
    embed(network, unchanged(chosen, size), training=norms)


# Validation


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A data set's query and gallery, ready for the network.

    Attributes:
        splits: query and gallery.
        pictures: those of both.
        batches: of both, as :func:`unchanged` makes them.
    """

    splits: tuple[Split, Split]
    pictures: list[Picture]
    batches: list[list[Tensor]]

    @classmethod
    def read(cls, root: Path, size: int, pose: str) -> HeldOut:
        dataset = multitasknet.read_dataset(root, ("query", "gallery"), check=False)
        records = with_poses([*dataset.query.records, *dataset.gallery.records], pose)
        pictures = read_pictures(records, {key_of(one): 0 for one in records})
        return cls((dataset.query, dataset.gallery), pictures, list(unchanged(pictures, size)))


def unchanged(pictures: list[Picture], size: int) -> Iterator[list[Tensor]]:
    """Batches of pictures as they are: pixels, segments and ``p``."""
    for start in range(0, len(pictures), 64):
        fits = [fitted(one, size) for one in pictures[start : start + 64]]
        made = [(pixels, *pose_inputs(pose, size)) for pixels, pose in fits]
        yield [torch.from_numpy(np.stack(parts)) for parts in zip(*made, strict=True)]


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
        embedding, color, kind = network(*inputs_of([one.to(device) for one in batch]))
        found.append((embedding, color.argmax(1), kind.argmax(1)))
    return [torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True)]


def validate(network: nn.Module, held_out: HeldOut) -> dict[str, float]:
    """VeRi's protocol on query and gallery, and colour and type, in percent."""
    embeddings, colors, kinds = embed(network, held_out.batches)
    query, gallery = held_out.splits
    ranking = evaluate_embeddings(
        *np.split(embeddings, [len(query)]),
        *(one.vehicle_ids for one in (query, gallery)),
        *(one.camera_ids for one in (query, gallery)),
    )
    color = np.mean(colors == [one.color for one in held_out.pictures])
    kind = np.mean(kinds == [one.kind for one in held_out.pictures])
    metrics = {"mAP": ranking.mAP, "Rank-1": ranking.rank(1), "color": color, "type": kind}
    return {name: 100 * float(value) for name, value in metrics.items()}


# Training


def plan_of(options: argparse.Namespace, pictures: int) -> Plan:
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
    )


def sidecar_of(
    training: Training, metrics: dict[str, float], options: argparse.Namespace
) -> dict[str, Any]:
    size = options.stages[-1][0]
    return {
        "format": 1,
        "network": "multitasknet",
        "variant": "segment",
        "size": [size, size],
        "colors": list(multitasknet.COLORS),
        "types": list(multitasknet.TYPES),
        "pose_convention": "visibility",
        "vehicle_ids": [],
        "color_ids": list(range(1, COLORS + 1)),
        "type_ids": list(range(1, TYPES + 1)),
        "metrics": metrics,
        "origin": {
            "script": Path(__file__).name,
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


def stage(text: str) -> tuple[int, int]:
    size, _, steps = text.partition(":")
    return int(size), int(steps)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="to train on")
    parser.add_argument("--validate", type=Path, nargs="+", default=[], help="query and test parts")
    parser.add_argument(
        "--pose",
        default="labels",
        help="estimates the poses: synthetic, card, a file (labels)",
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="to start from (random)")
    parser.add_argument("--output", type=Path, default=Path("multitasknet.pth"))
    parser.add_argument(
        "--stages",
        type=stage,
        nargs="+",
        default=STAGES,
        help=f"SIDE:STEPS, one after the other ({' '.join(f'{a}:{b}' for a, b in STAGES)})",
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop then at the latest, slowly (never)"
    )
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that make batches (1)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> None:
    start_anew_with_environment()
    options = read_options()
    torch.manual_seed(options.seed)
    pictures = read_training(options.data, options.pose)
    vehicles = count_vehicles(pictures)
    print(f"{len(pictures)} pictures of {vehicles} vehicles", flush=True)
    batches = Batches(pictures, stages=options.stages, batch=options.batch_size, seed=options.seed)
    plan = plan_of(options, len(pictures))
    network = MultiTaskNet(vehicles)
    if options.weights:
        network.start_from(options.weights)
    training = Training.of(network, plan)
    train(training, loss_of, batches, plan)
    rng = np.random.default_rng(options.seed)
    shuffled = [pictures[index] for index in rng.permutation(len(pictures))]
    estimate_statistics(training.average, shuffled, options.stages[-1][0])
    metrics = {}
    for root in options.validate:
        metrics = validate(
            training.average, HeldOut.read(root, options.stages[-1][0], options.pose)
        )
        print(f"{root}: {', '.join(f'{name} {value:.1f} %' for name, value in metrics.items())}")
    sidecar = sidecar_of(training, metrics, options)
    write_weights(options.output, training.average.published(), sidecar)
    print(options.output)


if __name__ == "__main__":
    main()
