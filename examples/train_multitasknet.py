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
is not written; the norm before the embedding's activation is written into ``fc_vid``. The same
command goes on where it was interrupted, for more steps if there are more. ``--weights`` starts
from trained ones, for other vehicles than they were trained on.

With ``--last-block``, too, only the last dense block and the heads are trained, which on two cores
is twenty times as fast: each picture goes through the layers before them ``--views`` times, changed
at random each time, and what they give is kept in a file beside the output. Embeddings are held
near those of the weights it starts from (Li and Hoiem, Learning without Forgetting, ECCV 2016).
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Sequence
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
from torch.utils.data import DataLoader, Dataset
from torch_training import (
    Training,
    normalized,
    start_anew_with_environment,
    start_worker,
    train,
    write_weights,
)

import multitasknet
from multitasknet.data.records import Record
from multitasknet.models.multitasknet.preprocessing import MAP_MEAN, MAP_STD, pose_vector
from multitasknet.vehicle.keypoints import NUM_KEYPOINTS, SURFACES
from multitasknet.vehicle.maps import MAP_SIZE, draw_segments

EMBEDDING, ATTRIBUTE, POSE = 1024, 512, 3 * NUM_KEYPOINTS
LAST_BLOCK = -2  # where it begins in the backbone: the block and a norm
BEFORE_LAST_BLOCK = 512  # channels

# How it is taught, beside what holds for all.
MIXED, MIX_ALPHA = 0.2, 0.1
WITHOUT_POSE = 0.25
STAYING_WEIGHT = 1.0  # with --last-block
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

    only_last_block = False

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

    def train_only_last_block(self) -> None:
        """And the heads; norms keep their statistics, so training starts where the weights are."""
        self.only_last_block = True
        for part in self.base[:LAST_BLOCK]:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> MultiTaskNet:
        return super().train(mode and not self.only_last_block)

    def forward(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.last_block(self.base[:LAST_BLOCK](x), p)

    def last_block(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From what the layers before the last block give, ``[N, 512, H / 32, W / 32]``."""
        features = torch.cat((self.base[LAST_BLOCK:](x).mean((2, 3)), p), 1)
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
    if rng.random() < WITHOUT_POSE:
        pose[:] = 0  # not known
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
        directions = functional.normalize(embedding)
        weight = network.classifier_vid.weight
        return recognition_loss(directions, color, kind, weight, batch[3])


def loss_of_last_block(network: MultiTaskNet, batch: list[Tensor], side: int) -> Tensor:
    """Of rows of ``kept_views``."""
    x, p, before = split_rows(batch[0], side)
    embedding, color, kind = (one.float() for one in network.last_block(x, p))
    with torch.autocast(embedding.device.type, enabled=False):
        directions = functional.normalize(embedding)
        weight = network.classifier_vid.weight
        loss = recognition_loss(directions, color, kind, weight, batch[1])
        stays = functional.cosine_similarity(directions, before)
        return loss + STAYING_WEIGHT * (1 - stays).mean()


# What the last block is trained on


class Views(Dataset):
    """Each picture a few times in turn, changed at random."""

    def __init__(self, pictures: Sequence[Picture], size: int, views: int, seed: int) -> None:
        self.pictures, self.size, self.views, self.seed = pictures, size, views, seed

    def __len__(self) -> int:
        return len(self.pictures) * self.views

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng((self.seed, index))
        return made(self.pictures[index // self.views], self.size, rng)


@torch.inference_mode()
def kept_views(
    network: MultiTaskNet, pictures: Sequence[Picture], options: argparse.Namespace
) -> np.ndarray:
    """Rows of float16, in a file: what comes before the last block, ``p``, and the embedding."""
    path = options.output.with_suffix(".views.npy")
    if not path.is_file():
        views = Views(pictures, options.stages[0][0], options.views, options.seed)
        side = views.size // 32
        shape = len(views), BEFORE_LAST_BLOCK * side**2 + POSE + EMBEDDING
        part = path.with_suffix(".part")
        rows = np.lib.format.open_memmap(part, "w+", np.float16, shape)
        loaded = DataLoader(views, 64, num_workers=options.workers, worker_init_fn=start_worker)
        start = 0
        for batch in loaded:
            batch = [one.to(options.device) for one in batch]
            with torch.autocast(options.device, torch.bfloat16, enabled=options.bfloat16):
                x, p = network.eval().inputs_of(batch)
                before = network.base[:LAST_BLOCK](x)
                embedding = network.last_block(before, p)[0]
            parts = torch.cat((before.float().flatten(1), p, embedding.float()), 1)
            rows[start : start + len(parts)] = parts.half().cpu().numpy()
            start += len(parts)
            if start % 6400 == 0:
                print(f"{path}: {start} of {len(views)} views", flush=True)
        rows.flush()
        part.replace(path)
    return np.load(path, mmap_mode="r")


def with_views(
    network: MultiTaskNet, pictures: Sequence[Picture], options: argparse.Namespace
) -> list[Picture]:
    """The pictures with their views; the network trains its last block from now on."""
    network.to(options.device).train_only_last_block()
    rows = kept_views(network, pictures, options)
    if len(rows) != len(pictures) * options.views:
        raise SystemExit(
            f"{options.output}: the views beside it are {len(rows)}, of other pictures; remove them"
        )
    views = np.split(rows, len(pictures))
    return [replace(one, views=own) for one, own in zip(pictures, views, strict=True)]


def split_rows(rows: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of ``kept_views``: ``x`` and ``p`` for the last block, and the embedding as it was."""
    x, p, embedding = rows.float().split([rows.shape[1] - POSE - EMBEDDING, POSE, EMBEDDING], 1)
    x = x.view(-1, BEFORE_LAST_BLOCK, side, side)
    return x.contiguous(memory_format=torch.channels_last), p, embedding


def kept_view(picture: Picture, _: int, rng: np.random.Generator) -> tuple[np.ndarray]:
    return (picture.views[rng.integers(len(picture.views))],)


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
    parser.add_argument("--last-block", action="store_true", help="train it and the heads alone")
    parser.add_argument("--views", type=int, default=2, help="of each picture, with it (2)")
    parser.add_argument(
        "--bfloat16", action="store_true", help="for processors with AVX-512 BF16 or AMX; and GPUs"
    )
    options = parser.parse_args()
    if options.last_block and not options.weights:
        parser.error("--last-block: needs --weights, whose other layers stay as they are")
    if options.last_block and len(options.stages) > 1:
        parser.error("--last-block: takes one of --stages, since views are kept at one size")
    return options


def main() -> None:
    start_anew_with_environment()
    options = read_options()
    torch.manual_seed(options.seed)
    posed = partial(with_poses, options.pose)
    pictures = read_pictures(posed(training_records(options.data)))
    vehicles = count_vehicles(pictures)
    print(f"{len(pictures)} pictures of {vehicles} vehicles", flush=True)
    network = MultiTaskNet(vehicles)
    if options.weights:
        network.start_from(options.weights)
    make, loss, size = made, loss_of, options.stages[-1][0]
    if options.last_block:
        pictures = with_views(network, pictures, options)
        make, loss = kept_view, partial(loss_of_last_block, side=size // 32)
    batches = Batches(
        pictures, make, stages=options.stages, batch=options.batch_size, seed=options.seed
    )
    # The last block's small convolutions learn several times slower in bfloat16 on a CPU.
    bfloat16 = options.bfloat16 and not options.last_block
    plan = plan_of(options, len(pictures), bfloat16=bfloat16)
    training = Training.of(network, plan)
    train(training, loss, batches, plan)
    chosen = some_of(pictures, options.seed)
    estimate_statistics(training.average, unchanged(chosen, size, as_it_is))
    metrics = {}
    for root in options.validate:
        held_out = HeldOut.read(root, posed)
        metrics = validate(training.average, held_out, unchanged(held_out.pictures, size, as_it_is))
        print_metrics(root, metrics)
    facts = {"network": "multitasknet", "variant": "segment", "distance": "cosine"}
    sidecar = sidecar_of(Path(__file__).name, facts, training, metrics, options)
    write_weights(options.output, training.average.published(), sidecar)
    print(options.output)


if __name__ == "__main__":
    main()
