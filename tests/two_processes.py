"""What each process of the two-process test does; started by ``msrun``."""

from __future__ import annotations

import json
import os

os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import mindspore
import numpy as np
import toy_network
from mindspore import Tensor, nn
from toy_task import ToySettings

from multitasknet import MultiTaskNet, MultiTaskNetSpec, finetune
from multitasknet.models import NETWORKS
from multitasknet.models.multitasknet.spec import Variant
from multitasknet.training.history import EpochRecord
from multitasknet.training.losses import HeatmapLoss, MultiTaskLoss
from multitasknet.training.optimization import create_optimizer, set_training
from multitasknet.training.parallel import Devices
from multitasknet.training.settings import SETTINGS
from multitasknet.training.step import TrainingStep

BATCH = 16


def joined_batch() -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Both processes' images together; some colours and types are unknown."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(BATCH, 3, 32, 32)), rng.uniform(-0.5, 0.5, (BATCH, 108))
    labels = np.repeat(np.arange(4), 4), rng.integers(-1, 10, BATCH), rng.integers(-1, 9, BATCH)
    return (
        tuple(array.astype(np.float32) for array in inputs),
        tuple(array.astype(np.int32) for array in labels),
    )


def gradients(devices: Devices) -> dict[str, np.ndarray]:
    """Of this process's part of the batch, averaged over the processes."""
    mindspore.set_seed(0)
    network = MultiTaskNet(MultiTaskNetSpec(Variant.RGB, num_ids=4))
    set_training(network, statistics=False)
    return averaged(network, MultiTaskLoss(devices=devices, gather=True), devices, *joined_batch())


def pose_gradients(devices: Devices) -> dict[str, np.ndarray]:
    """As :func:`gradients`, of a single convolution under the loss of the pose networks."""
    mindspore.set_seed(0)
    rng = np.random.default_rng(0)
    x, *labels = (
        array.astype(np.float32)
        for array in (
            rng.normal(size=(BATCH, 3, 32, 32)),
            rng.uniform(size=(BATCH, 36, 8, 8)),
            rng.integers(0, 2, (BATCH, 36)),
        )
    )
    network = nn.Conv2d(3, 36, 3, stride=4)
    (found,) = averaged(network, HeatmapLoss(), devices, (x,), tuple(labels)).values()
    return {"pose": found}


def averaged(
    network: nn.Cell, loss: nn.Cell, devices: Devices, inputs: tuple, labels: tuple
) -> dict[str, np.ndarray]:
    optimizer = create_optimizer(network)
    step = TrainingStep(network, loss, optimizer, clip=1e9, devices=devices)
    share = BATCH // devices.count
    part = slice(devices.rank * share, (devices.rank + 1) * share)
    mine = (tuple(Tensor(array[part]) for array in arrays) for arrays in (inputs, labels))
    found = step.gradients(*mine)[1]
    names = [parameter.name for parameter in optimizer.parameters]
    return {name: value.asnumpy() for name, value in zip(names, found, strict=True)}


def run(data: Path, output: Path) -> None:
    devices = Devices.join()
    found = gradients(devices) | pose_gradients(devices)
    np.savez(output / f"gradients_{devices.rank}.npz", **found)
    result = finetune(
        data,
        output / "run",
        weights="none",
        variant="rgb",
        size=32,
        epochs=2,
        batch_size=4,
        instances=2,
        freeze="backbone",
        gather=True,
        progress=False,
    )
    # Five items on two devices: the last comes again, and is left out where they are joined.
    items = np.arange(10, dtype=np.float32).reshape(5, 2)
    process = {
        "is_first": result.is_first,
        "metrics": [dict(result.history.before), *(dict(r.metrics) for r in result.history.epochs)],
        "joined": devices.joined(items[devices.share(5)], 5).tolist(),
    }
    (output / f"process_{devices.rank}.json").write_text(json.dumps(process))
    stop_and_resume(data, output)


def stop_and_resume(data: Path, output: Path) -> None:
    """Train the toy, whose batch norm is not frozen, without a break and with one."""
    NETWORKS["toy"], SETTINGS["toy"] = toy_network.__name__, ToySettings
    toy = {"network": "toy", "weights": "none", "size": 32, "batch_size": 4, "epochs": 2}
    finetune(data, output / "straight", progress=False, on_epoch=keep(output), **toy)
    finetune(data, output / "resumed", progress=False, resume=True)


def keep(output: Path) -> Callable[[EpochRecord], None]:
    """Copies the folder as processes leave it that die after the first epoch."""

    def copy(record: EpochRecord) -> None:
        if record.epoch == 1:
            shutil.copytree(output / "straight", output / "resumed")
            (output / "resumed" / ".training.lock").unlink()

    return copy


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
