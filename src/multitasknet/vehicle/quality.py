"""Whether a picture shows one whole vehicle, and enough of it to recognise it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# What a pose network may tell pictures apart by; the first is what the others are reasons against.
CONTENTS = ("one vehicle", "no vehicle", "several vehicles", "cut off")
# Below this quality there is a reason.
LEAST_QUALITY = 0.5
# Pixels of the longer side; grey level that at least one pixel in a hundred reaches.
_SMALLEST, _BRIGHT = 24, 32
_LOOKED_AT = 64  # pixels of a side


class Quality(NamedTuple):
    """How good a picture is for re-identification.

    Attributes:
        value: 0..1; the probability that it shows one whole vehicle, 0 if it is too small or dark.
        reason: what is wrong with it, below 0.5: ``no vehicle``, ``several vehicles``,
            ``cut off``, ``too small``, ``too dark``; else None.
    """

    value: float
    reason: str | None


def find_quality(pixels: np.ndarray, contents: np.ndarray | None) -> Quality:
    """The quality of a picture, as far as it is known.

    Args:
        pixels: uint8 ``[H, W, 3]``.
        contents: the probabilities of ``CONTENTS``; None without a pose network that gives them:
            then a picture that is neither too small nor too dark has quality 1.
    """
    if max(pixels.shape[:2]) < _SMALLEST:
        return Quality(0.0, "too small")
    step = max(max(pixels.shape[:2]) // _LOOKED_AT, 1)
    if np.percentile(pixels[::step, ::step], 99) < _BRIGHT:
        return Quality(0.0, "too dark")
    if contents is None:
        return Quality(1.0, None)
    value = float(contents[0])
    return Quality(value, CONTENTS[1 + contents[1:].argmax()] if value < LEAST_QUALITY else None)
