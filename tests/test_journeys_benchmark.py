"""The journeys benchmark's IDF1, against values worked out by hand."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def journeys() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        yield importlib.import_module("journeys")


# Two cameras, four frames each; a vehicle stands in a place of its own.
PLACES = {"a": (0, 0, 10, 10), "b": (20, 0, 30, 10)}
SWAPPED = {"a": "b", "b": "a"}
BOTH = [(camera, frame, vehicle) for camera in "12" for frame in range(4) for vehicle in "ab"]


@pytest.mark.parametrize(
    ("named", "idf1"),
    [
        (lambda camera, frame, vehicle: vehicle, 1),
        # Each vehicle has another number before each camera: one of the two counts.
        (lambda camera, frame, vehicle: camera + vehicle, 16 / 32),
        # All are one vehicle: it stands for one of the two.
        (lambda camera, frame, vehicle: "x", 16 / 32),
        # They change numbers after the first frame of the second camera.
        (
            lambda camera, frame, vehicle: (
                SWAPPED[vehicle] if (camera, frame) > ("2", 0) else vehicle
            ),
            20 / 32,
        ),
        # Vehicle b is not found; a is, in every other frame.
        (lambda camera, frame, vehicle: "x" if vehicle == "a" and frame % 2 else None, 8 / 20),
    ],
)
def test_idf1_by_hand(journeys, named, idf1) -> None:
    true = [journeys.Seen(*one, PLACES[one[2]]) for one in BOTH]
    ours = [
        journeys.Seen(camera, frame, name, PLACES[vehicle])
        for camera, frame, vehicle in BOTH
        if (name := named(camera, frame, vehicle))
    ]
    assert journeys.idf1(true, ours) == pytest.approx(idf1)


def test_a_box_counts_that_overlaps_by_half_in_the_same_cameras_frame(journeys) -> None:
    true = [journeys.Seen("1", 0, "a", (0, 0, 10, 10))]
    for camera, x, right in (("1", 0, 1), ("1", 3, 1), ("1", 4, 0), ("1", 20, 0), ("2", 0, 0)):
        found = [journeys.Seen(camera, 0, "x", (x, 0, x + 10, 10))]  # 3 of 13 beside, 4 of 14
        assert journeys.idf1(true, found) == right
    assert journeys.idf1(true, []) == 0
