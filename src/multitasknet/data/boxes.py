"""Boxes of vehicles in frames, as other programs write them: MOT and CityFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LEAST_SIDE = 32


@dataclass(frozen=True)
class Box:
    image: Path
    xyxy: tuple[float, float, float, float]
    track: str = ""
    confidence: float = 1.0
    label: str = ""
    frame: int | None = None


@dataclass(frozen=True)
class BoxFile:
    boxes: tuple[Box, ...]
    relative: bool = False
    first: int | None = None


def read_boxes(path: Path) -> BoxFile:
    rows = []
    for line in path.read_text().splitlines():
        frame, id, x, y, w, h, conf, *_ = map(float, line.split(","))
        rows.append(
            Box(Path(), (x, y, x + w, y + h), "" if id < 0 else str(int(id)), conf, "", int(frame))
        )
    return BoxFile(tuple(rows), first=1)
