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
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
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
    """Threads that prepare batches: at most 8, and as many as the cores."""
    return min(_MOST_WORKERS, usable_cores())


def free_memory() -> int:
    """Bytes of the machine's memory that are free."""
    import psutil  # which takes longer to import than a picture to predict

    return int(psutil.virtual_memory().available)


def import_openvino(extra: str = "openvino") -> ModuleType:
    """OpenVINO, without its telemetry, which forks this process and tells Intel of each import."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return import_extra("openvino", extra)


def is_capped() -> bool:
    """Whether ``ONEDNN_MAX_CPU_ISA`` keeps each oneDNN from bfloat16 and VNNI."""
    return os.environ.get(_VARIABLE, "").upper() not in ("", "ALL", "DEFAULT")


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
    flags = Path("/proc/cpuinfo")
    has_avx_vnni = flags.exists() and " avx_vnni" in flags.read_text()
    return (has_cpu_feature("AVX512VNNI") or has_avx_vnni) and not is_capped()


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
