"""The checks, in the order in which one that fails explains the next."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ..device import ASCEND_NODE, choose_device, has_idle_ascend
from ..errors import MultiTaskNetError
from ..runtime import guard_cpu, usable_workers

Status = Literal["ok", "failed", "skipped"]

_PACKAGES = ("multitasknet", "mindspore", "numpy", "protobuf", "onnxruntime", "openvino")
_CANN_VARIABLES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")
_OLDEST, _NEWEST = (2, 7), (2, 10)
# Largest difference over largest value. A CPU's kernels differ by rounding alone; HF32 and float16
# keep 11 bits, of which the sums lose some.
_EXACT, _HF32, _HALF = 1e-4, 2e-3, 1e-2
# Of the losses of 20 steps, each of which builds on the one before.
_LOSSES, _LOSSES_OFF_CPU = 5e-3, 3e-2
_PICTURES, _PICTURE_SIDE = 64, 256
_SECONDS_FOR_TWO = 300
_INSTALL = "install the MindSpore that belongs to your CANN, see docs/ascend.md"
_REPORT = "report it with this table"


class DoctorError(MultiTaskNetError, RuntimeError):
    """A machine that does not compute what it should."""


@dataclass(frozen=True)
class Finding:
    """What one check found; ``remedy`` is what to do about it, if it failed."""

    name: str
    status: Status
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """A question; ``ask`` gives status, what was found, and the remedy.

    Attributes:
        is_short: whether it takes seconds.
    """

    name: str
    ask: Callable[[], tuple[Status, str, str]]
    is_short: bool = True


def examine(device: str | None = None, *, short: bool = False) -> Iterator[Finding]:
    """Ask everything, one finding at a time; none of them is an exception.

    Args:
        device: where MindSpore is to compute, see :func:`.device.choose_device`.
        short: leave out what takes minutes.

    Raises:
        DeviceError: MindSpore does not compute there.
    """
    choose_device(device)
    guard_cpu()
    for check in CHECKS:
        if short and not check.is_short:
            yield Finding(check.name, "skipped", "it takes minutes; leave --short out")
            continue
        try:
            yield Finding(check.name, *check.ask())
        # Whatever a broken installation raises is what is looked for.
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), "")
            yield Finding(check.name, "failed", f"{type(error).__name__}: {reason}", _REPORT)


def _verdict(good: bool, found: str, remedy: str) -> tuple[Status, str, str]:
    return ("ok", found, "") if good else ("failed", found, remedy)


def _target() -> str:
    import mindspore

    return mindspore.get_context("device_target")


def _versions() -> tuple[Status, str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    cann = cann_version(os.environ)
    if cann:
        found["CANN"] = cann
    faults = version_faults(found)
    words = ", ".join(f"{name} {value}" for name, value in found.items())
    return _verdict(not faults, words, "; ".join(faults))


def cann_version(environment: Mapping[str, str]) -> str:
    """The version of the CANN whose environment is sourced; empty if none is."""
    for name in _CANN_VARIABLES:
        for part in ("compiler", "runtime"):
            file = Path(environment.get(name, "/nowhere")) / part / "version.info"
            with contextlib.suppress(OSError):
                stated = re.search(r"^Version=(\S+)", file.read_text(errors="replace"), re.M)
                if stated:
                    return stated[1]
    return ""


def version_faults(found: Mapping[str, str]) -> list[str]:
    """What does not fit together, with the remedy, of versions by name."""
    numbers = {name: _numbers(value) for name, value in found.items()}
    faults = []
    mindspore = numbers["mindspore"]
    if not _OLDEST <= mindspore <= _NEWEST:
        faults.append(f"MindSpore {found['mindspore']} was never tried; take 2.7 to 2.10")
    if numbers["numpy"] >= (2,):
        faults.append("MindSpore is built for NumPy 1; pip install 'numpy<2'")
    if "CANN" not in found:
        return faults
    if numbers["protobuf"] != (3, 20):
        faults.append("CANN asks for protobuf 3.20; pip install 'protobuf>=3.20,<3.21'")
    if numbers["python"] >= (3, 12) and (mindspore < (2, 10) or numbers["CANN"] < (8, 5)):
        faults.append("Python 3.12 needs MindSpore 2.10 and CANN 8.5; take Python 3.10 or 3.11")
    return faults


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


def _run_check() -> tuple[Status, str, str]:
    import mindspore

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        mindspore.run_check()
    last = next(iter(reversed(said.getvalue().strip().splitlines())), "it said nothing")
    return _verdict("successfully" in last, last, _INSTALL)


def _device() -> tuple[Status, str, str]:
    import mindspore

    target = _target()
    found = f"{target}:{mindspore.get_context('device_id')}" if target != "CPU" else target
    if has_idle_ascend(target, is_there=ASCEND_NODE.exists()):
        return "failed", f"{found}, beside an idle Ascend", "source set_env.sh of your CANN"
    return "ok", found, ""


def _checkpoint() -> tuple[Status, str, str]:
    import mindspore

    from ..weights.ckpt_file import read_ckpt

    value = np.arange(12, dtype=np.float32).reshape(3, 4)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.ckpt"
        mindspore.save_checkpoint([{"name": "value", "data": mindspore.Tensor(value)}], str(path))
        same = np.array_equal(read_ckpt(path.read_bytes())["value"], value)
    return _verdict(same, "written and read" if same else "read with other values", _REPORT)


def _forward() -> tuple[Status, str, str]:
    return _compare_outputs(_EXACT if _target() == "CPU" else _HF32)


def _forward_fp16() -> tuple[Status, str, str]:
    return _compare_outputs(_HALF, fp16=True)


def _forward_exact() -> tuple[Status, str, str]:
    if _target() != "Ascend":
        return "skipped", "HF32 is Ascend's", ""
    import mindspore

    mindspore.device_context.ascend.op_precision.conv_allow_hf32(False)
    return _compare_outputs(_EXACT)


def _compare_outputs(most: float, *, fp16: bool = False) -> tuple[Status, str, str]:
    from . import probe
    from .reference import read_reference

    wanted = read_reference()["outputs"]
    off = float(np.abs(probe.outputs(fp16=fp16) - wanted).max() / np.abs(wanted).max())
    return _verdict(off <= most, f"{off:.1e} off, at most {most:.0e}", _REPORT)


def _training() -> tuple[Status, str, str]:
    return _compare_losses("float32")


def _training_mixed() -> tuple[Status, str, str]:
    return _compare_losses("mixed")


def _compare_losses(precision: str) -> tuple[Status, str, str]:
    from . import probe
    from .reference import read_reference

    wanted = read_reference()[precision]
    trained = probe.train(probe.Miniature(), len(wanted), mixed=precision == "mixed")
    off = float(np.abs(trained.losses / wanted - 1).max())
    most = _LOSSES if _target() == "CPU" else _LOSSES_OFF_CPU
    found = f"losses {off:.1e} off, at most {most:.0e}; {_pace(trained.seconds, probe.BATCH)}"
    return _verdict(off <= most, found, _REPORT)


def _full_training() -> tuple[Status, str, str]:
    return _train_in_full("float32")


def _full_training_mixed() -> tuple[Status, str, str]:
    return _train_in_full("mixed")


def _train_in_full(precision: str) -> tuple[Status, str, str]:
    from . import probe

    trained = probe.train(probe.full_network(), mixed=precision == "mixed")
    first, last = trained.losses[0], trained.losses[-1]
    found = f"loss {first:.3f} to {last:.3f}; {_pace(trained.seconds, probe.BATCH)}"
    return _verdict(bool(last < first), found, _REPORT)


def _pace(seconds: np.ndarray, batch: int) -> str:
    median = float(np.median(seconds[1:]))
    return f"first step {seconds[0]:.1f} s, then {1e3 * median:.0f} ms ({batch / median:.0f}/s)"


def _overflow() -> tuple[Status, str, str]:
    from . import probe

    found = probe.overflow()
    halved = found.after == found.before / 2 and not found.updated
    words = f"scale {found.before:.0f} to {found.after:.0f}, weights "
    return _verdict(halved, words + ("changed" if found.updated else "kept"), _REPORT)


def _pipeline() -> tuple[Status, str, str]:
    from ..data.pipeline import create_pipeline, rows_of
    from ..data.records import Record, Split
    from ..models.multitasknet.spec import MultiTaskNetSpec

    rng = np.random.default_rng(0)
    speeds = {}
    with tempfile.TemporaryDirectory() as folder:
        records = []
        for number in range(_PICTURES):
            image = Path(folder) / f"{number}.jpg"
            coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(coarse.repeat(16, 0).repeat(16, 1)).save(image)
            points = rng.uniform(0, _PICTURE_SIDE, (36, 2))
            keypoints = np.column_stack((points, np.ones(36))).astype(np.float32)
            records.append(Record(image, 0, 0, None, None, keypoints))
        split = Split("doctor", tuple(records))
        for workers in sorted({min(one, usable_workers()) for one in (1, 4, 8)}):
            pipeline = create_pipeline(
                split, MultiTaskNetSpec(), (256, 256), batch_size=8, workers=workers
            )
            started = time.perf_counter()
            count = sum(len(row["index"]) for row in rows_of(pipeline))
            speeds[workers] = count / (time.perf_counter() - started)
    words = ", ".join(f"{workers}: {speed:.0f}" for workers, speed in speeds.items())
    return "ok", f"images/s by workers: {words}", ""


def _two_devices() -> tuple[Status, str, str]:
    from ..training.parallel import Devices
    from . import probe

    msrun = Path(sys.executable).with_name("msrun")
    if _target() == "Ascend" and len(list(Path("/dev").glob("davinci[0-9]*"))) < 2:
        return "skipped", "there is one device", ""
    if not msrun.is_file():
        return "skipped", f"there is no {msrun}", ""
    expected = probe.gradients(Devices())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "worker.py"
        script.write_text(_WORKER.format(device=_target(), folder=name))
        command: list[str | Path] = [msrun, "--worker_num=2", "--local_worker_num=2", "--join=True"]
        command += [f"--master_port={_free_port()}", f"--log_dir={folder / 'log'}", script]
        # msrun takes the first Python that it finds.
        environment = os.environ | {"PATH": f"{msrun.parent}{os.pathsep}{os.environ['PATH']}"}
        subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=_SECONDS_FOR_TWO
        )
        found = [dict(np.load(path)) for path in sorted(folder.glob("*.npz"))]
    if len(found) < 2:
        return "failed", f"{len(found)} of 2 processes finished", _REPORT
    off = max(
        float(np.abs(one[name] - value).max() / np.abs(value).max())
        for one in found
        for name, value in expected.items()
    )
    most = _EXACT if _target() == "CPU" else _HF32
    return _verdict(off <= most, f"gradients {off:.1e} off, at most {most:.0e}", _REPORT)


_WORKER = """
from pathlib import Path
from multitasknet.device import choose_device
from multitasknet.doctor.probe import write_gradients
choose_device({device!r})
write_gradients(Path({folder!r}))
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


CHECKS = (
    Check("versions", _versions),
    Check("mindspore.run_check", _run_check),
    Check("device", _device),
    Check("checkpoint", _checkpoint),
    Check("forward", _forward),
    Check("forward, float16", _forward_fp16),
    Check("overflow", _overflow),
    Check("training", _training),
    Check("training, mixed", _training_mixed, is_short=False),
    Check("pipeline", _pipeline),
    Check("two processes", _two_devices, is_short=False),
    Check("MultiTaskNet", _full_training, is_short=False),
    Check("MultiTaskNet, mixed", _full_training_mixed, is_short=False),
    # Last: it holds for the rest of the process.
    Check("forward, no HF32", _forward_exact),
)
