"""Which vehicle stands before which camera, and in which split the picture goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multitasknet.vehicle.attributes import COLORS, TYPES

from .chance import FOR_PLAN, FOR_VEHICLE, Rng, stream
from .work import check

SPLITS = ("train", "query", "test")
_USUAL_TEST_VEHICLES = 10
_MOST = 10_000_000
_STEEP = 0.8  # the k-th of a type's models is on the road as often as k to the minus this
# Roughly what drives about, so that many vehicles share colour and type; and real ones in percent.
_COLOR_SHARES: dict[str, dict[str, float]] = {
    "even": dict.fromkeys(COLORS, 1.0) | {"white": 4, "black": 3, "gray": 3, "red": 2, "blue": 2},
    "real": dict(zip(COLORS, (4, 1, 7, 18, 10, 2, 21, 2, 2, 34), strict=True)),
}
_TYPE_SHARES: dict[str, dict[str, float]] = {
    "even": dict.fromkeys(TYPES, 1.0)
    | {"sedan": 4, "suv": 3, "hatchback": 2, "mpv": 1.5, "van": 1.5, "truck": 2},
    "real": dict(zip(TYPES, (48, 19, 3, 7, 0.5, 8, 2, 13, 1), strict=True)),
}


@dataclass(frozen=True)
class Picture:
    """One picture to take, of ``train``, ``query`` or ``test``; ids count from 1."""

    split: str
    vehicle_id: int
    camera: int
    index: int

    @property
    def name(self) -> str:
        """The file name, as in VeRi: vehicle, camera, frame, index."""
        frame = 97 * self.index + 13 * self.vehicle_id
        return f"{self.vehicle_id:04}_c{self.camera:03}_{frame:08}_{self.index}.jpg"


@dataclass(frozen=True)
class VehiclePlan:
    """One identity and its pictures; ``model`` is from 1, or None where no other shares it."""

    vehicle_id: int
    type_id: int
    color_id: int
    pictures: tuple[Picture, ...]
    model: int | None = None


def make_plan(
    vehicles: int,
    images: int,
    cameras: int,
    seed: int,
    *,
    prior: str = "even",
    test_vehicles: int | None = None,
    models: int | None = None,
) -> list[VehiclePlan]:
    """Plan a data set: ``vehicles`` for training, and ``test_vehicles`` (a third, at least 10).

    Every test vehicle has a quarter of its images (at least one) as queries, each from another
    camera; the rest are the gallery, which has at least one camera that no query has.

    With ``models``, the vehicles for training are of so many models, few of them common and most of
    them rare; those of the test are of as many in proportion, and none of these is trained on.

    Raises:
        SyntheticError: too few vehicles, images, cameras or models for that.
    """
    usual = max(_USUAL_TEST_VEHICLES, -(-vehicles // 3))
    held_out = usual if test_vehicles is None else test_vehicles
    check(
        prior,
        seed,
        vehicles=(vehicles, 2, _MOST),
        test_vehicles=(held_out, 2, _MOST),
        images=(images, 2, _MOST),
        cameras=(cameras, 2, 9999),
        models=(len(TYPES) if models is None else models, len(TYPES), _MOST),
        total_images=((vehicles + held_out) * images, 8, _MOST),
    )
    rng = stream(seed, FOR_PLAN)
    train = _covering_classes(rng, vehicles, prior)
    types, colors = (sorted(set(ids)) for ids in zip(*train, strict=True))
    test = draw_classes(rng, held_out, prior, types, colors)
    ids: list[int | None] = [None] * (vehicles + held_out)
    if models is not None:
        drawing = stream(seed, FOR_VEHICLE)
        unseen = max(len(TYPES), -(-models * held_out // vehicles))
        ids = [
            *_draw_models(drawing, [type_id for type_id, _ in train], models, 1, prior),
            *_draw_models(drawing, [type_id for type_id, _ in test], unseen, 1 + models, prior),
        ]
    plans = []
    for vehicle_id, (type_id, color_id) in enumerate(train + test, start=1):
        order = 1 + rng.permutation(cameras)
        queries = 0 if vehicle_id <= vehicles else max(1, min(images // 4, cameras - 1))
        rest = "train" if vehicle_id <= vehicles else "test"
        pictures = tuple(
            Picture("query" if i < queries else rest, vehicle_id, int(order[i % cameras]), i)
            for i in range(images)
        )
        model = ids[vehicle_id - 1]
        plans.append(VehiclePlan(vehicle_id, type_id, color_id, pictures, model))
    return plans


def _draw_models(rng: Rng, types: list[int], count: int, first: int, prior: str) -> list[int]:
    """A model of each vehicle's type, numbered from ``first``; every type has one at least."""
    every = list(range(1, len(TYPES) + 1))
    of_model = np.array(
        [*every, *_draw(rng, count - len(every), every, _TYPE_SHARES[prior], TYPES)]
    )
    drawn = []
    for type_id in types:
        found = np.flatnonzero(of_model == type_id)
        often = (1.0 + np.arange(len(found))) ** -_STEEP
        drawn.append(first + int(rng.choice(found, p=often / often.sum())))
    return drawn


def _covering_classes(rng: Rng, count: int, prior: str) -> list[tuple[int, int]]:
    """Type and colour of each vehicle; all classes occur as soon as there are ten vehicles."""
    types, colors = rng.permutation(len(TYPES)) + 1, rng.permutation(len(COLORS)) + 1
    first = [
        (int(types[i % len(types)]), int(colors[i % len(colors)]))
        for i in range(min(count, len(colors)))
    ]
    return first + draw_classes(rng, count - len(first), prior)


def draw_classes(
    rng: Rng,
    count: int,
    prior: str,
    types: Sequence[int] = range(1, len(TYPES) + 1),
    colors: Sequence[int] = range(1, len(COLORS) + 1),
) -> list[tuple[int, int]]:
    """Type and colour ids of vehicles, as they are spread on real crops or evenly."""
    drawn_types = _draw(rng, count, types, _TYPE_SHARES[prior], TYPES)
    drawn_colors = _draw(rng, count, colors, _COLOR_SHARES[prior], COLORS)
    return list(zip(drawn_types, drawn_colors, strict=True))


def _draw(
    rng: Rng, count: int, ids: Sequence[int], shares: dict[str, float], names: Sequence[str]
) -> list[int]:
    """Of ids from 1 on, as often as the shares of their names say."""
    weights = np.array([shares[names[one - 1]] for one in ids])
    drawn: list[int] = rng.choice(ids, count, p=weights / weights.sum()).tolist()
    return drawn
