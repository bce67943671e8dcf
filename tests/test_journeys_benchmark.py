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
    ("named", "right", "found"),
    [
        (lambda camera, frame, vehicle: vehicle, 16, 16),
        # Each vehicle has another number before each camera: one of the two counts.
        (lambda camera, frame, vehicle: camera + vehicle, 8, 16),
        # All are one vehicle: it stands for one of the two.
        (lambda camera, frame, vehicle: "x", 8, 16),
        # They change numbers after the first frame of the second camera.
        (
            lambda camera, frame, vehicle: (
                SWAPPED[vehicle] if (camera, frame) > ("2", 0) else vehicle
            ),
            10,
            16,
        ),
        # Vehicle b is not found; a is, in every other frame.
        (lambda camera, frame, vehicle: "x" if vehicle == "a" and frame % 2 else None, 4, 4),
    ],
)
def test_idf1_by_hand(journeys, named, right, found) -> None:
    true = [journeys.Seen(*one, PLACES[one[2]]) for one in BOTH]
    ours = [
        journeys.Seen(camera, frame, name, PLACES[vehicle])
        for camera, frame, vehicle in BOTH
        if (name := named(camera, frame, vehicle))
    ]
    result = journeys.identities(true, ours)
    assert (result.right, result.true, result.found) == (right, 16, found)
    assert result.idf1 == pytest.approx(2 * right / (16 + found))


def test_a_box_counts_that_overlaps_by_half(journeys) -> None:
    true = [journeys.Seen("1", 0, "a", (0, 0, 10, 10))]
    for x, right in ((0, 1), (3, 1), (4, 0), (20, 0)):  # 7 of 13, 6 of 14
        found = [journeys.Seen("1", 0, "x", (x, 0, x + 10, 10))]
        assert journeys.identities(true, found).right == right
    assert journeys.overlap((0, 0, 10, 10), (5, 5, 15, 15)) == pytest.approx(25 / 175)
    assert journeys.identities(true, []).idf1 == 0
    other = [journeys.Seen("2", 0, "x", (0, 0, 10, 10))]
    assert journeys.identities(true, other).right == 0  # another camera's frame
