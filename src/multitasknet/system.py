"""``info --system``: what is installed, and each shipped network's outputs beside stored ones."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .device import has_idle_ascend
from .files import PACKAGE, reason_of, replacing
from .inference.pose import PoseEstimator
from .inference.predictor import Predictor
from .runtime import usable_cores

# What MindSpore computed on a CPU; "python -m multitasknet.system" writes it there.
REFERENCE = PACKAGE / "system.json"
_PACKAGES = ("multitasknet", "mindspore", "numpy", "protobuf", "onnxruntime", "openvino", "lancedb")
_BACKENDS = {"mindspore": "mindspore", "onnx": "onnxruntime", "openvino": "openvino"}
_NETWORKS: Mapping[str, Callable[..., Any]] = {
    "MultiTaskNet": Predictor,
    "VehiclePose": PoseEstimator,
    "VehicleReID": Predictor,
}
_SIDE, _STORED = 64, 64
# Largest difference over that output's largest value. Kernels of CPUs differ by rounding; HF32 of
# an Ascend keeps 11 bits, of which the sums lose some.
_CLOSE, _CLOSE_ON_DEVICE = 1e-3, 1e-2


@dataclass(frozen=True)
class Finding:
    """One line about this machine; ``is_right`` is False for what needs a remedy."""

    name: str
    found: str
    is_right: bool = True


def examine() -> Iterator[Finding]:
    """Describe this machine and run each shipped network with every engine; seconds to a minute."""
    import mindspore

    yield Finding("python", f"{platform.python_version()}, {platform.platform()}")
    for package in _PACKAGES:
        try:
            yield Finding(package, version(package))
        except PackageNotFoundError:
            yield Finding(package, "not installed")
    yield Finding("CANN", _cann_version() or "not in this environment")
    yield Finding("cores", str(usable_cores()))
    target, is_idle = mindspore.get_context("device_target"), has_idle_ascend()
    remedy = ", beside an idle Ascend: source CANN's set_env.sh" if is_idle else ""
    yield Finding("device", f"{target}{remedy}", not is_idle)
    for backend, module in _BACKENDS.items():
        close = _CLOSE_ON_DEVICE if backend == "mindspore" and target != "CPU" else _CLOSE
        for network in _NETWORKS if find_spec(module) else ():
            yield _compare(network, backend, close)


def _cann_version() -> str:
    """Of the CANN whose environment is sourced; empty if there is none."""
    file = Path(os.environ.get("ASCEND_HOME_PATH", "/nowhere"), "compiler", "version.info")
    stated = re.search(r"^Version=(\S+)", file.read_text() if file.is_file() else "", re.M)
    return stated[1] if stated else ""


def compute(network: str, backend: str) -> list[list[float]]:
    """A sample of each of a shipped network's outputs for an input of fixed noise."""
    how: dict[str, Any] = {"offline": True, "progress": False, "size": _SIDE, "batch_size": 1}
    runner = _NETWORKS[network](network.lower(), backend=backend, **how)
    rng = np.random.default_rng(0)
    inputs = [
        rng.random((1, *shape), np.float32) - np.float32(0.5)
        for shape in runner.spec.input_shapes((_SIDE, _SIDE)).values()
    ]
    samples = (one.ravel()[:: -(-one.size // _STORED)] for one in runner.engine.run(*inputs))
    return [[float(f"{value:.9g}") for value in one] for one in samples]


def _compare(network: str, backend: str, close: float) -> Finding:
    name = f"{network}, {backend}"
    try:
        wanted = map(np.array, json.loads(REFERENCE.read_text())[network])
        pairs = zip(compute(network, backend), wanted, strict=True)
        off = max(float(np.abs(one - other).max() / np.abs(other).max()) for one, other in pairs)
    # Whatever a broken installation raises is what is looked for.
    except Exception as error:
        return Finding(name, f"{type(error).__name__}: {reason_of(error)}", False)
    return Finding(name, f"outputs {off:.1e} off, at most {close:.0e}", off <= close)


if __name__ == "__main__":
    with replacing(REFERENCE) as part:
        stored = {network: compute(network, "mindspore") for network in _NETWORKS}
        part.write_text(json.dumps(stored) + "\n", encoding="utf-8")
