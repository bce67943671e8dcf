"""Which device MindSpore computes on: one that is asked for, or what it finds by itself."""

from __future__ import annotations

import logging
import os
import re
from functools import lru_cache
from pathlib import Path
from threading import RLock

from .errors import EngineError

logger = logging.getLogger(__name__)

# There if the machine has an Ascend accelerator, whatever the environment is.
ASCEND_NODE = Path("/dev/davinci_manager")
_TARGETS = {target.lower(): target for target in ("CPU", "Ascend", "GPU")}
_CANN = "source set_env.sh of your CANN, then see 'multitasknet info --system'"
# MindSpore does not support several threads of one process: whatever builds, exports or runs a
# Cell holds this.
MINDSPORE_TURN = RLock()


def parse_device(text: str) -> tuple[str, int | None]:
    """A kind of device and which of them, None if MindSpore chooses; EngineError for other words.

    From ``CPU``, ``Ascend``, ``Ascend:1``, ``GPU:0`` and so on, in any case.
    """
    if not re.fullmatch("cpu|(ascend|gpu)(:[0-9]+)?", text, re.IGNORECASE):
        raise EngineError(
            f"device is {text!r}; expected CPU, Ascend or GPU, the last two with a number if you "
            f"like, such as Ascend:1"
        )
    name, _, number = text.partition(":")
    return _TARGETS[name.lower()], int(number) if number else None


def choose_device(device: str | None) -> None:
    """Make MindSpore compute on a device, in all of this process; None leaves the one it found.

    EngineError if there is no such device, or it computes on another one already.
    """
    import mindspore

    if device is None:
        if has_idle_ascend():
            _warn_of_idle_ascend()
        return
    target, number = parse_device(device)
    if number is not None and "MS_ROLE" in os.environ:
        raise EngineError(
            f"device is {device!r}, but msrun gives each process its own; leave the number out, "
            f"and choose by ASCEND_RT_VISIBLE_DEVICES"
        )
    found = mindspore.get_context("device_target")
    if found == target and number in (None, mindspore.get_context("device_id")):
        return
    try:
        mindspore.set_device(target, number)
    # What a broken installation raises is not only MindSpore's own.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        remedy = _CANN if target == "Ascend" else "leave it out"
        raise EngineError(
            f"device is {device!r}, but MindSpore does not compute there ({reason}); {remedy}"
        ) from error


def has_idle_ascend() -> bool:
    """Whether MindSpore computes on the CPU of a machine that has an Ascend accelerator."""
    import mindspore

    return ASCEND_NODE.exists() and mindspore.get_context("device_target") == "CPU"


@lru_cache(maxsize=1)
def _warn_of_idle_ascend() -> None:
    logger.warning(
        "this machine has an Ascend accelerator (%s), but MindSpore computes on the CPU: %s",
        ASCEND_NODE,
        _CANN,
    )
