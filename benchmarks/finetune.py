"""A training step of MultiTaskNet beside PyTorch's, eager: forward, backward and update in turn.

    python benchmarks/finetune.py [--size 128] [--batch 16] [--runs 5]

Needs the extra [torch].
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mindspore import Tensor
from torch.nn import functional

from multitasknet import MultiTaskNet, MultiTaskNetSpec
from multitasknet.training.losses import MultiTaskLoss
from multitasknet.training.settings import MultiTaskNetSettings
from multitasknet.training.step import TrainingStep, create_optimizer, set_training

TESTS = Path(__file__).resolve().parents[1] / "tests"
INSTANCES = 4  # images of a vehicle in a batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, usual in (("size", 128), ("batch", 16), ("runs", 5)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    options = parser.parse_args()
    rng, size, batch = np.random.default_rng(0), options.size, options.batch
    arrays = (
        rng.normal(size=(batch, 16, size, size)).astype(np.float32),
        rng.uniform(-0.5, 0.5, (batch, 108)).astype(np.float32),
        np.repeat(np.arange(batch // INSTANCES), INSTANCES).astype(np.int32),
    )
    steps = {"MindSpore": mindspore_step(*arrays), "PyTorch, eager": torch_step(*arrays)}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for run in range(options.runs + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if run:  # the first compiles, or fills caches
                seconds[name].append(time.perf_counter() - started)
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:15}{batch / median:7.2f} images/s {median:7.3f} s a step of {batch}")


def mindspore_step(x: np.ndarray, p: np.ndarray, ids: np.ndarray) -> Callable[[], object]:
    network = MultiTaskNet(MultiTaskNetSpec(num_ids=60))
    set_training(network)
    optimizer = create_optimizer(network, MultiTaskNetSettings())
    step = TrainingStep(network, MultiTaskLoss(), optimizer, clip=50.0)
    step.set_rate(3e-4)
    inputs, labels = (Tensor(x), Tensor(p)), (Tensor(ids), Tensor(ids), Tensor(ids))
    return lambda: step(inputs, labels)


def torch_step(x: np.ndarray, p: np.ndarray, ids: np.ndarray) -> Callable[[], object]:
    sys.path.insert(0, str(TESTS))
    from torch_networks import TorchNet, randomized

    network = randomized(TorchNet(MultiTaskNetSpec(num_ids=60))).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4, weight_decay=5e-4)
    image, pose, labels = torch.from_numpy(x), torch.from_numpy(p), torch.from_numpy(ids).long()

    def triplet(embedding: torch.Tensor) -> torch.Tensor:
        distances = torch.cdist(embedding, embedding)
        same = labels[:, None] == labels
        farthest = distances.masked_fill(~same, -1).amax(1)
        nearest = distances.masked_fill(same, torch.inf).amin(1)
        return torch.relu(farthest - nearest + 0.3).mean()

    def step() -> None:
        optimizer.zero_grad()
        *logits, embedding = network(image, pose)
        loss = sum(functional.cross_entropy(one, labels) for one in logits) + triplet(embedding)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 50.0)
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
