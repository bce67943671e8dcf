"""The training scripts' loop: it goes on where it was interrupted, and averages the weights."""

from __future__ import annotations

import copy
import json
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

WARM_UP, CLIP = 0.05, 5.0
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Freed memory goes back to the system page by page otherwise; and threads that wait by turning in a
# circle take the core from the one that they wait for, wherever something else runs beside them.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "OMP_WAIT_POLICY": "PASSIVE",
}
SECONDS_BETWEEN_STATES, SECONDS_BETWEEN_REPORTS = 60, 15


def start_anew_with_environment() -> None:
    """Start the script again with ENVIRONMENT, which is read when a process starts."""
    if not ENVIRONMENT.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], ENVIRONMENT | os.environ)


@dataclass(frozen=True)
class Plan:
    """How long and how fast: until the minutes are spent, or that many steps are done.

    Attributes:
        state: the file that a training goes on from, written again and again.
        key: what the state belongs to; more minutes or steps do not make it another training.
        average: how much of the averaged weights each step keeps.
        bfloat16: whether convolutions and the like compute in it; GPUs' always do.
    """

    state: Path
    key: str
    learning_rate: float
    device: str
    minutes: float = math.inf
    steps: float = math.inf
    workers: int = 1
    average: float = 0.9995
    weight_decay: float = 0.05
    bfloat16: bool = False

    def progress(self, step: int, seconds: float) -> float:
        """The share that is done, 0..1 and above."""
        return max(seconds / (60 * self.minutes), step / self.steps)


@dataclass
class Training:
    """All that a training needs to go on: saved whole, or not at all."""

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0

    @classmethod
    def of(
        cls, network: nn.Module, plan: Plan, *, faster: Sequence[str] = (), factor: float = 1.0
    ) -> Training:
        """Of initial values; norms and biases do not decay.

        Some parts learn faster by a factor.
        """
        network.to(device=plan.device, memory_format=torch.channels_last)
        groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
        for name, one in network.named_parameters():
            if not one.requires_grad:
                continue
            decay = plan.weight_decay if one.ndim > 1 else 0.0
            groups[decay, factor if name.split(".")[0] in faster else 1.0].append(one)
        parts = [
            {"params": ones, "weight_decay": decay, "factor": own}
            for (decay, own), ones in groups.items()
        ]
        optimizer = torch.optim.AdamW(parts, lr=plan.learning_rate, fused=True)
        return cls(network, copy.deepcopy(network).requires_grad_(False), optimizer)

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

    def follow(self, kept: float) -> None:
        """Move the average a little towards the network; norms' statistics are taken as they are.

        At first it moves faster, so that it forgets the initial values.
        """
        share = 1 - min(kept, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            ours, theirs = list(self.average.parameters()), list(self.network.parameters())
            torch._foreach_lerp_(ours, theirs, share)
            torch._foreach_copy_(list(self.average.buffers()), list(self.network.buffers()))


def train(
    training: Training,
    loss_of: Callable[[nn.Module, list[Tensor]], Tensor],
    batches: Dataset,
    plan: Plan,
) -> None:
    """Train as planned, on from the state if there is one."""
    if plan.state.is_file():
        training.load(plan.state, plan.key)
        print(f"{plan.state}: goes on at step {training.step}", flush=True)
    start = reported = saved = time.monotonic() - training.seconds
    losses: list[Tensor] = []
    samples = 0
    bfloat16 = plan.bfloat16 or plan.device == "cuda"
    training.network.train()
    torch.backends.cudnn.benchmark = True
    for batch in _loaded(batches, training.step, plan):
        training.seconds = time.monotonic() - start
        progress = plan.progress(training.step, training.seconds)
        if progress >= 1:
            break
        for group in training.optimizer.param_groups:
            group["lr"] = plan.learning_rate * group["factor"] * rate_at(progress)
        batch = [one.to(plan.device, non_blocking=True) for one in batch]
        with torch.autocast(plan.device, torch.bfloat16, enabled=bfloat16):
            loss = loss_of(training.network, batch)
        training.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(training.network.parameters(), CLIP)
        training.optimizer.step()
        training.step += 1
        training.follow(plan.average)
        losses.append(loss.detach())
        samples += len(batch[0])
        now = time.monotonic()
        if now - reported > SECONDS_BETWEEN_REPORTS:
            speed, mean = samples / (now - reported), torch.stack(losses).mean().item()
            print(
                f"{progress:6.1%}  step {training.step}  loss {mean:.3f}  {speed:.0f} samples/s",
                flush=True,
            )
            reported, losses, samples = now, [], 0
        if now - saved > SECONDS_BETWEEN_STATES:
            training.save(plan.state, plan.key)
            saved = now
    training.save(plan.state, plan.key)


def rate_at(progress: float) -> float:
    """The learning rate's share at a share of the training: up, then down along a cosine."""
    if progress < WARM_UP:
        return max(progress / WARM_UP, 0.01)
    return 0.5 + 0.5 * math.cos(math.pi * min((progress - WARM_UP) / (1 - WARM_UP), 1))


def _loaded(batches: Dataset, first: int, plan: Plan) -> Iterator[list[Tensor]]:
    """Batches from that step on, without end, made ahead by other processes."""
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=range(first, sys.maxsize),
            num_workers=plan.workers,
            prefetch_factor=4 if plan.workers else None,
            pin_memory=plan.device == "cuda",
            worker_init_fn=start_worker,
        )
    )


def start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    os.nice(5)


def normalized(pixels: Tensor) -> Tensor:
    """uint8 ``[B, S, S, 3]`` as the networks take it, the channels last in memory."""
    mean, std = (torch.tensor(values, device=pixels.device) for values in (MEAN, STD))
    return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def write_weights(path: Path, values: dict[str, Tensor], sidecar: dict[str, Any]) -> None:
    """A file for ``multitasknet convert``, and beside it what multitasknet reads of it."""
    part = path.with_name(f"{path.name}.part")
    torch.save({"state_dict": {name: value.cpu() for name, value in values.items()}}, part)
    part.replace(path)
    path.with_suffix(".json").write_text(json.dumps(sidecar, indent=1), encoding="utf-8")
