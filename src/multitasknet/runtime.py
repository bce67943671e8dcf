"""The processor: how much of it this process may use, and MindSpore kept off oneDNN's slow path."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import platform
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from .errors import import_extra

logger = logging.getLogger(__name__)

_VARIABLE = "ONEDNN_MAX_CPU_ISA"
_FIRST_SLOW_VERSION = (2, 9)
_AVX2 = 0x7  # dnnl_cpu_isa_avx2
_CAPS_WITHOUT_VNNI = frozenset({"SSE41", "AVX", "AVX2", "AVX512_CORE"})
_CAPS_WITHOUT_BFLOAT16 = _CAPS_WITHOUT_VNNI | {"AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE_VNNI"}
_GROUP = Path("/sys/fs/cgroup")
_QUOTA = _GROUP / "cpu.max"
# More decode faster than any device trains, and each keeps batches in memory.
_MOST_WORKERS = 8


def usable_cores() -> int:
    """Cores that this process may use: by its affinity and its control group (version 2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = _QUOTA.read_text().split()
        return max(min(cores or 1, math.ceil(int(quota) / int(period))), 1)
    except (OSError, ValueError):  # no such file, or "max"
        return cores or 1


def usable_workers() -> int:
    """Threads that prepare batches: at most 8, and this process's share of the cores."""
    # Where msrun binds each process to cores, the affinity is the share already.
    bound = "MSRUN_CPU_LIST" in os.environ
    processes = 1 if bound else int(os.environ.get("MS_WORKER_NUM", 1))
    return max(1, min(_MOST_WORKERS, usable_cores() // processes))


def free_memory() -> int:
    """Bytes that this process may still take: of the machine's, within its control group's."""
    import psutil  # which takes longer to import than a picture to predict

    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (int(Path(_GROUP, f"memory.{one}").read_text()) for one in ("max", "current"))
        lines = Path(_GROUP, "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no such file, or "max"
        return free
    counts = {name: int(count) for name, count in (line.split() for line in lines)}
    # What was read of files is given up when it is needed.
    cached = counts.get("active_file", 0) + counts.get("inactive_file", 0)
    return max(min(free, limit - used + cached), 0)


def import_openvino(extra: str = "openvino") -> ModuleType:
    """OpenVINO, without its telemetry, which forks this process and tells Intel of each import."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return import_extra("openvino", extra)


def cap_leaves_bfloat16() -> bool:
    """Whether ``ONEDNN_MAX_CPU_ISA``, if it is set, leaves oneDNN AVX512-BF16 and what is above."""
    return _cap() not in _CAPS_WITHOUT_BFLOAT16


def _cap() -> str:
    return os.environ.get(_VARIABLE, "").upper()


def has_cpu_feature(name: str) -> bool:
    """Whether the processor has an instruction set, such as ``AVX512F`` or ``AVX512VNNI``."""
    # Where numpy.show_runtime() takes it from, on every operating system.
    from numpy.core import _multiarray_umath as features

    return bool(features.__cpu_features__.get(name))


def sums_int8_exactly() -> bool:
    """Whether products of uint8 and int8 are summed in 32 bits: not on x86 without VNNI.

    Nor where a cap keeps OpenVINO's oneDNN from it.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "x86"):
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    has_vnni = has_cpu_feature("AVX512VNNI") or " avx_vnni" in flags
    return has_vnni and _cap() not in _CAPS_WITHOUT_VNNI


def guard_cpu() -> None:
    """Limit MindSpore's oneDNN to AVX2 where its AVX-512 convolutions are 40 times slower.

    That is: MindSpore 2.9 or newer, on a CPU with AVX-512, and nothing chosen by the user. oneDNN
    takes a limit until the first operator runs; where one has, a warning is logged. Other libraries
    have a oneDNN of their own, which AVX-512 does not slow down.
    """
    import mindspore

    version = tuple(int(part) for part in mindspore.__version__.split(".")[:2])
    is_slow = version >= _FIRST_SLOW_VERSION and has_cpu_feature("AVX512F")
    is_on_cpu = mindspore.get_context("device_target") == "CPU"
    if is_slow and is_on_cpu and _VARIABLE not in os.environ:
        _limit_onednn(Path(mindspore.__file__).parent / "lib")


@lru_cache(maxsize=1)
def _limit_onednn(folder: Path) -> None:
    """Set the limit of the oneDNN in a folder, by its own function: no operator, no variable."""
    library = next(folder.glob("libdnnl.so*"), None)
    if library is None:
        return
    onednn = ctypes.CDLL(str(library))
    if onednn.dnnl_set_max_cpu_isa(_AVX2) == 0:
        logger.info("MindSpore's oneDNN is limited to AVX2, which is faster here")
    elif onednn.dnnl_get_effective_cpu_isa() != _AVX2:
        logger.warning(
            "MindSpore has computed with AVX-512 already, which is slow; set %s=AVX2 before it",
            _VARIABLE,
        )
