"""The CPU guard: keeps MindSpore off oneDNN's slow path."""

from __future__ import annotations

import logging
import os

logger = logging.getLogger(__name__)

_VARIABLE = "ONEDNN_MAX_CPU_ISA"
_FIRST_SLOW_VERSION = (2, 9)


def guard_cpu() -> bool:
    """Limit oneDNN to AVX2 where its AVX-512 convolutions are 40 times slower.

    That is: MindSpore 2.9 or newer, on a CPU with AVX-512, and nothing chosen by the user. It must
    run before the first operator does; oneDNN reads the variable once.

    Returns:
        Whether the variable was set by this call.
    """
    import mindspore

    if not needs_guard(
        version=mindspore.__version__,
        device=mindspore.get_context("device_target"),
        has_avx512=_has_avx512(),
        chosen=os.environ.get(_VARIABLE),
    ):
        return False
    os.environ[_VARIABLE] = "AVX2"
    logger.warning(
        "set %s=AVX2: MindSpore %s is about 40 times slower on this AVX-512 CPU without it",
        _VARIABLE,
        mindspore.__version__,
    )
    return True


def needs_guard(*, version: str, device: str, has_avx512: bool, chosen: str | None) -> bool:
    """The decision of :func:`guard_cpu`, apart from where its facts come from."""
    if chosen is not None or device != "CPU" or not has_avx512:
        return False
    return tuple(int(part) for part in version.split(".")[:2]) >= _FIRST_SLOW_VERSION


def _has_avx512() -> bool:
    # Where numpy.show_runtime() takes it from, on every operating system.
    from numpy.core._multiarray_umath import __cpu_features__

    return bool(__cpu_features__.get("AVX512F"))
