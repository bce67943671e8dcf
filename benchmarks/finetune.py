"""This package's training beside the model zoo's recipe, and a training step beside PyTorch's.

    python benchmarks/finetune.py recipes [--epochs 6] [--size 64] [--seeds 3]
    python benchmarks/finetune.py step [--size 128] [--batch 16]

``recipes`` makes synthetic vehicles (60 to train on, seed 0) and trains from fresh weights, in turn
and for the same number of epochs: P x K batches, warm-up and cosine, left and right exchanged by
the flip, no decay of norms and biases; against random batches, a constant rate, keypoints that
drift from pass to pass, a flip that exchanges nothing, and decay of everything. ``step`` times
forward, backward and update in turn (A B A B ...); PyTorch's needs torch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import mindspore
import numpy as np
from mindspore import Tensor, nn

from multitasknet import MultiTaskNet, MultiTaskNetSpec, read_dataset
from multitasknet.data.records import VehicleDataset
from multitasknet.training.augmentation import augment
from multitasknet.training.batches import Batch, Draw, IdentitySampler, ImageSource, ShuffledSampler
from multitasknet.training.history import History
from multitasknet.training.identity import trained_classes, validate
from multitasknet.training.loop import Job, Run, Task
from multitasknet.training.losses import MultiTaskLoss
from multitasknet.training.settings import MultiTaskNetSettings
from multitasknet.training.step import TrainingStep, create_optimizer, set_training
from multitasknet.vehicle.sample import Sample
from vehiclesynth import synthesize

TESTS = Path(__file__).resolve().parents[1] / "tests"
VEHICLES, INSTANCES = 8, 4
BATCH = VEHICLES * INSTANCES
SHOWN = ("mAP", "Rank-1", "color", "type")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    recipes = commands.add_parser("recipes")
    recipes.add_argument("--epochs", type=int, default=6)
    recipes.add_argument("--size", type=int, default=64)
    recipes.add_argument("--seeds", type=int, default=3)
    recipes.add_argument("--rate", type=float, default=3e-4)
    step = commands.add_parser("step")
    step.add_argument("--size", type=int, default=128)
    step.add_argument("--batch", type=int, default=16)
    step.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    if options.command == "recipes":
        compare_recipes(options.epochs, options.size, options.seeds, options.rate)
    else:
        compare_steps(options.size, options.batch, options.runs)


class DriftingSource(ImageSource):
    """The model zoo's: keypoints are scaled to the input in place, once more in every pass."""

    def read(self, batches: Sequence[np.ndarray], draw: Draw | None = None) -> Iterator[Batch]:
        assert draw

        def drifting(sample: Sample, index: int, place: int) -> Sample:
            shape = np.array([*sample.pixels.shape[1::-1], 1], np.float32)
            scale = np.array([*self.spec.input_size[::-1], 1], np.float32) / shape
            moved = replace(sample, keypoints=sample.keypoints * scale**draw.epoch)
            return augment(moved, self.settings, draw.generator(index, place))

        return self.changed(batches, drifting)


def compare_recipes(epochs: int, size: int, seeds: int, rate: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        synthesize(Path(folder) / "data", vehicles=60, images=12, cameras=6, pixels=size, seed=0)
        dataset = read_dataset(Path(folder) / "data")
        print(f"{'':24}" + "".join(f"{name:>9}" for name in SHOWN))
        recipes = {"this recipe": train_ours, "model zoo's": train_theirs}
        metrics: dict[str, list[dict[str, float]]] = {name: [] for name in recipes}
        for seed in range(seeds):
            for name, train in recipes.items():
                metrics[name].append(train(dataset, epochs, size, seed, rate))
                print_row(f"seed {seed}, {name}", [metrics[name][-1][one] for one in SHOWN])
        for name, runs in metrics.items():
            columns = [[run[one] for run in runs] for one in SHOWN]
            print_row(f"mean, {name}", map(statistics.mean, columns))
            print_row(f"spread, {name}", [max(column) - min(column) for column in columns])


def print_row(name: str, values: Iterable[float]) -> None:
    print(f"{name:24}" + "".join(f"{value:9.2f}" for value in values), flush=True)


def train_ours(dataset: VehicleDataset, epochs: int, size: int, seed: int, rate: float) -> dict:
    network = fresh_network(seed, size)
    sampler = IdentitySampler(
        dataset.train.vehicle_ids, vehicles=VEHICLES, images=INSTANCES, seed=seed
    )
    settings = MultiTaskNetSettings(seed=seed, batch_size=BATCH, erase=0.0, lr=rate, epochs=epochs)
    optimizer = create_optimizer(network, settings)
    return train(dataset, network, optimizer, sampler, ImageSource, settings)


def train_theirs(dataset: VehicleDataset, epochs: int, size: int, seed: int, rate: float) -> dict:
    network = fresh_network(seed, size)
    everything = [{"params": network.trainable_params(), "lr": 1.0, "weight_decay": 5e-4}]
    optimizer = nn.Adam(everything, learning_rate=1.0)
    sampler = ShuffledSampler(len(dataset.train), BATCH, seed)
    settings = MultiTaskNetSettings(
        seed=seed,
        batch_size=BATCH,
        lr=rate,
        epochs=epochs,
        schedule="constant",
        warmup=0.0,
        flip="paper",
        erase=0.0,
        jitter=0.0,
    )
    return train(dataset, network, optimizer, sampler, DriftingSource, settings)


def fresh_network(seed: int, size: int) -> MultiTaskNet:
    mindspore.set_seed(seed)
    return MultiTaskNet(MultiTaskNetSpec(num_ids=60, input_size=(size, size)))


def train(dataset, network, optimizer, sampler, kind, settings) -> dict[str, float]:
    job = Job(settings, dataset, Path(), workers=2)
    classes = trained_classes(network.spec.class_maps, dataset.train)
    source, *tested = (
        of(split, network.spec, classes, settings, workers=2)
        for of, split in (
            (kind, dataset.train),
            (ImageSource, dataset.query),
            (ImageSource, dataset.gallery),
        )
    )
    loss = MultiTaskLoss(smoothing=0.1)
    step = TrainingStep(network, loss, optimizer, clip=50.0)
    task = Task(network, sampler, source, loss, losses=(), metric="mAP")
    run = Run(job, task, History({}), step)
    for epoch in range(settings.epochs):
        run.train(epoch)
    network.set_train(False)
    return validate(job, network, network.spec, tested)


def compare_steps(size: int, batch: int, runs: int) -> None:
    rng = np.random.default_rng(0)
    arrays = (
        rng.normal(size=(batch, 16, size, size)).astype(np.float32),
        rng.uniform(-0.5, 0.5, (batch, 108)).astype(np.float32),
        np.repeat(np.arange(batch // INSTANCES), INSTANCES).astype(np.int32),
    )
    steps = {"MindSpore, this package": mindspore_step(*arrays)}
    try:
        steps["PyTorch, eager"] = torch_step(*arrays)
    except ModuleNotFoundError:
        print("PyTorch is not installed: pip install torch")
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for run in range(runs + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if run:  # the first compiles, or fills caches
                seconds[name].append(time.perf_counter() - started)
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:26}{batch / median:7.2f} images/s {median:7.3f} s a step of {batch}")


def mindspore_step(x: np.ndarray, p: np.ndarray, ids: np.ndarray) -> Callable[[], object]:
    network = MultiTaskNet(MultiTaskNetSpec(num_ids=60))
    set_training(network)
    optimizer = create_optimizer(network, MultiTaskNetSettings())
    step = TrainingStep(network, MultiTaskLoss(), optimizer, clip=50.0)
    step.set_rate(3e-4)
    inputs, labels = (Tensor(x), Tensor(p)), (Tensor(ids), Tensor(ids), Tensor(ids))
    return lambda: step(inputs, labels)


def torch_step(x: np.ndarray, p: np.ndarray, ids: np.ndarray) -> Callable[[], object]:
    import torch
    from torch.nn import functional

    sys.path.insert(0, str(TESTS))
    from torch_network import TorchNet

    network = TorchNet(MultiTaskNetSpec(num_ids=60)).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4, weight_decay=5e-4)
    image, pose, labels = torch.from_numpy(x), torch.from_numpy(p), torch.from_numpy(ids).long()

    def triplet(embedding: torch.Tensor) -> torch.Tensor:
        distances = torch.cdist(embedding, embedding)
        same = labels[:, None] == labels
        farthest = distances.masked_fill(~same, -1).amax(1)
        nearest = distances.masked_fill(same, torch.inf).amin(1)
        return torch.relu(farthest - nearest + 0.3).mean()

    def step() -> float:
        optimizer.zero_grad()
        *logits, embedding = network(image, pose)
        loss = sum(functional.cross_entropy(one, labels) for one in logits) + triplet(embedding)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 50.0)
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    main()
