"""What a CPU computed of the probe: ``python -m multitasknet.doctor.reference`` writes it anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("reference.json")


def read_reference() -> dict[str, np.ndarray]:
    """``outputs``, float32 ``[8, 87]``, and the losses of 20 steps, ``float32`` and ``mixed``."""
    stored: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: np.array(values, np.float32) for name, values in stored.items()}


def write_reference() -> None:
    """Compute it here; for a CPU that nobody doubts."""
    from ..files import replacing
    from . import probe

    computed = {
        "outputs": probe.outputs(),
        "float32": probe.train(probe.Miniature()).losses,
        "mixed": probe.train(probe.Miniature(), mixed=True).losses,
    }
    # Nine digits are all that float32 has.
    values = {
        name: [[float(f"{one:.9g}") for one in row] for row in np.atleast_2d(array)]
        for name, array in computed.items()
    }
    flat = {name: rows if name == "outputs" else rows[0] for name, rows in values.items()}
    with replacing(FILE) as part:
        part.write_text(json.dumps(flat) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_reference()
