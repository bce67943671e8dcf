"""Training of MultiTaskNet, the segment variant, with PyTorch on generated vehicles.

    multitasknet synthesize --output ROOT --vehicles 5000 --images 8 --cameras 80 --pixels 144
    python examples/train_multitasknet.py --data ROOT --validate ROOT --pose synthetic \\
        --output identity.pth
    multitasknet convert identity.pth identity.ckpt --float16

Nine minutes of a large GPU and 16 cores that make its batches (``--workers 15``). Two cores see a
five-hundredth as many pictures in that time: there ``--batch-size 96 --stages 32:2200 64:1300`` is
a night's work, and the pictures are few and small.

With ``--pose synthetic`` the light pose network estimates the poses, as those will be that the
weights meet. What it is taught is in ``identity_training.py``; besides, shallow statistics are
mixed between pictures (Zhou et al., Domain Generalization with MixStyle, ICLR 2021). The classifier
stays behind; the norm before the embedding's activation is written into ``fc_vid``. The same
command goes on where it was interrupted, for more steps if there are more. ``--weights`` starts
from trained ones, for other vehicles than they were trained on.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from identity_training import (
    COLORS,
    TYPES,
    Batches,
    HeldOut,
    Picture,
    augmented,
    count_vehicles,
    estimate_statistics,
    fitted,
    options_parser,
    plan_of,
    print_metrics,
    read_pictures,
    recognition_loss,
    sidecar_of,
    some_of,
    training_records,
    unchanged,
    validate,
)
from torch import Tensor, nn
from torch.nn import functional
from torch_training import Training, normalized, start_anew_with_environment, train, write_weights

import multitasknet
from multitasknet.data.records import Record
from multitasknet.models.multitasknet.preprocessing import MAP_MEAN, MAP_STD, pose_vector
from multitasknet.vehicle.keypoints import NUM_KEYPOINTS, SURFACES
from multitasknet.vehicle.maps import MAP_SIZE, draw_segments

EMBEDDING, ATTRIBUTE, POSE = 1024, 512, 3 * NUM_KEYPOINTS

# What it is taught, beside what all are.
LENGTH_WEIGHT = 0.1
MIXED, MIX_ALPHA = 0.2, 0.1
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

    @staticmethod
    def inputs_of(batch: list[Tensor]) -> tuple[Tensor, Tensor]:
        """``x`` and ``p`` of a batch."""
        pixels, segments, pose = batch[:3]
        maps = functional.interpolate(segments.float(), pixels.shape[1:3], mode="bilinear")
        maps = (maps / 255 - MAP_MEAN) / MAP_STD
        x = torch.cat((normalized(pixels), maps), 1)
        return x.contiguous(memory_format=torch.channels_last), pose

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


def with_poses(pose: str, records: list[Record]) -> list[Record]:
    """The records with poses that a network estimates; as they are with ``labels``."""
    if pose == "labels":
        return records
    estimator = multitasknet.PoseEstimator(pose, flip_test=False)
    poses = estimator.estimate([record.image for record in records])
    pairs = zip(records, poses, strict=True)
    return [replace(record, keypoints=found.keypoints) for record, found in pairs]


def made(picture: Picture, size: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """uint8 ``[S, S, 3]`` and ``[13, 64, 64]``, ``p`` ``[108]``."""
    pixels, pose = augmented(picture, size, rng)
    if rng.random() < 0.3:
        pose[:, :2] += rng.normal(0, 0.015 * size, (NUM_KEYPOINTS, 2))
    if rng.random() < 0.05:
        pose[:] = 0  # none is known
    return pixels, *pose_inputs(pose, size)


def as_it_is(picture: Picture, size: int) -> tuple[np.ndarray, ...]:
    pixels, pose = fitted(picture, size)
    return pixels, *pose_inputs(pose, size)


def pose_inputs(pose: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The segments, uint8 ``[13, 64, 64]``, and ``p``, float32 ``[108]``."""
    side = max(size, MAP_SIZE)
    scale = np.array([side / size, side / size, 1], np.float32)
    segments = draw_segments(pose * scale, width=side, height=side)
    return segments, pose_vector(pose.astype(np.float32), size, size)


# Losses


def loss_of(network: MultiTaskNet, batch: list[Tensor]) -> Tensor:
    embedding, color, kind = (one.float() for one in network(*network.inputs_of(batch)))
    # Cosines of three digits are too coarse for the losses' scales.
    with torch.autocast(embedding.device.type, enabled=False):
        lengths = embedding.norm(dim=1)
        directions = embedding / lengths[:, None]
        # Rankings may go by plain distances, which then are those of the directions.
        spread = (lengths / lengths.mean().detach() - 1).square().mean()
        weight = network.classifier_vid.weight
        loss = recognition_loss(directions, color, kind, weight, batch[3])
        return loss + LENGTH_WEIGHT * spread


# Training


def read_options() -> argparse.Namespace:
    parser = options_parser(
        __doc__.splitlines()[0],
        output="multitasknet.pth",
        stages=STAGES,
        batch_size=512,
        learning_rate=1.5e-3,
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="to start from (random)")
    parser.add_argument(
        "--pose",
        default="labels",
        help="estimates the poses: synthetic, card, a file (labels)",
    )
    return parser.parse_args()


def main() -> None:
    start_anew_with_environment()
    options = read_options()
    torch.manual_seed(options.seed)
    posed = partial(with_poses, options.pose)
    pictures = read_pictures(posed(training_records(options.data)))
    vehicles = count_vehicles(pictures)
    print(f"{len(pictures)} pictures of {vehicles} vehicles", flush=True)
    batches = Batches(
        pictures, made, stages=options.stages, batch=options.batch_size, seed=options.seed
    )
    plan = plan_of(options, len(pictures))
    network = MultiTaskNet(vehicles)
    if options.weights:
        network.start_from(options.weights)
    training = Training.of(network, plan)
    train(training, loss_of, batches, plan)
    size = options.stages[-1][0]
    chosen = some_of(pictures, options.seed)
    estimate_statistics(training.average, unchanged(chosen, size, as_it_is))
    metrics = {}
    for root in options.validate:
        held_out = HeldOut.read(root, posed)
        metrics = validate(training.average, held_out, unchanged(held_out.pictures, size, as_it_is))
        print_metrics(root, metrics)
    facts = {"network": "multitasknet", "variant": "segment"}
    sidecar = sidecar_of(Path(__file__).name, facts, training, metrics, options)
    write_weights(options.output, training.average.published(), sidecar)
    print(options.output)


if __name__ == "__main__":
    main()
