"""Labels in file names of crops: of VeRi, ``0002_c002_00030600_0.jpg``, Market and MSMT."""

from __future__ import annotations

import posixpath
import re

from ..vehicle.cameras import UNKNOWN_CAMERA

# Of numbers that 64 bits hold.
_VEHICLE = re.compile(r"-1(?=_)|0*[0-9]{1,18}(?![0-9])")
# VeRi's names; Market's, as 0011_c1s1_000151_01, where the number of the recording follows the
# camera's; and MSMT's, as 0000_001_02_0303morning_0015_0.
_CAMERA = re.compile(
    r"(?:-1|[0-9]+)_c([0-9]{1,18})(?:s[0-9]+)?(?:[_.]|$)"
    r"|[0-9]+_[0-9]+_([0-9]{1,18})_[0-9]+(?:morning|noon|afternoon)_",
    re.IGNORECASE,
)


def vehicle_in(name: str) -> int:
    """The vehicle of a file name: its leading digits, or 0; -1 shows none of the vehicles."""
    found = _VEHICLE.match(name)
    return int(found[0]) if found else 0


def camera_in(name: str) -> int:
    """The camera of a file name, -1 if it names none."""
    camera = _CAMERA.match(name)
    return int(camera[1] or camera[2]) if camera else UNKNOWN_CAMERA


def path_in(text: str) -> str:
    """A path as lists and label files write it, with either slash, in its shortest form."""
    # No path holds a NUL: it becomes one that is not there.
    path = posixpath.normpath(text.strip().replace("\\", "/").replace("\0", "\ufffd"))
    return "" if path == "." else path
