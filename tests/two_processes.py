"""What each process of the two-process test does; started by ``msrun``."""

from __future__ import annotations

import json
import os

os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

import shutil
import sys
from pathlib import Path

import mindspore
import numpy as np
import toy_network
from mindspore import Tensor, nn
from toy_task import ToySettings

from multitasknet import finetune
from multitasknet.models import NETWORKS
from multitasknet.training.history import EpochRecord
from multitasknet.training.losses import HeatmapLoss
from multitasknet.training.parallel import Devices
from multitasknet.training.settings import SETTINGS, Settings
from multitasknet.training.step import TrainingStep, create_optimizer

BATCH = 16
TOY = {"network": "toy", "weights": "none", "size": 32, "batch_size": 4, "epochs": 2}


def gradients(devices: Devices) -> dict[str, np.ndarray]:
    """Of this process's part of a batch, averaged over the processes: by weight's name."""
    mindspore.set_seed(0)
    rng = np.random.default_rng(0)
    arrays = (
        rng.normal(size=(BATCH, 3, 32, 32)),
        rng.uniform(size=(BATCH, 36, 8, 8)),
        rng.integers(0, 2, (BATCH, 36)),
    )
    network = nn.Conv2d(3, 36, 3, stride=4, has_bias=True)
    optimizer = create_optimizer(network, Settings())
    step = TrainingStep(network, HeatmapLoss(), optimizer, clip=1e9, devices=devices)
    share = BATCH // devices.count
    part = slice(devices.rank * share, (devices.rank + 1) * share)
    image, *labels = (Tensor(array[part].astype(np.float32)) for array in arrays)
    found = step.gradients((image,), tuple(labels))[1]
    names = [parameter.name for parameter in optimizer.parameters]
    return {name: value.asnumpy() for name, value in zip(names, found, strict=True)}


def run(data: Path, output: Path) -> None:
    """Average gradients; train the toy, whose batch norm is not frozen, without a break and with
    one."""
    devices = Devices.join()
    np.savez(output / f"gradients_{devices.rank}.npz", **gradients(devices))
    NETWORKS["toy"], SETTINGS["toy"] = toy_network.__name__, ToySettings

    def copy(record: EpochRecord) -> None:
        """As processes leave the folder that die after the first epoch."""
        if record.epoch == 1:
            shutil.copytree(output / "straight", output / "resumed")
            (output / "resumed" / ".training.lock").unlink()

    result = finetune(data, output / "straight", progress=False, on_epoch=copy, **TOY)
    metrics = [result.history.before, *(record.metrics for record in result.history.epochs)]
    process = {"is_first": result.is_first, "metrics": list(map(dict, metrics))}
    (output / f"process_{devices.rank}.json").write_text(json.dumps(process))
    finetune(data, output / "resumed", progress=False, resume=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
