"""Who passes which camera when, and how they drive there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np

from .chance import Rng
from .street import Street

RATE = 10  # frames a second
PASSED = 20.0  # metres from a camera's pole, where a vehicle counts as passing it
_FIRST_DAY = datetime(2026, 6, 15, tzinfo=timezone.utc)
_LATITUDE, _LONGITUDE = 48.2, 11.5
_DEGREE = 111_320.0  # metres of a degree of latitude
_LEAST_GAP = 4.0  # metres between bumpers
_STOP_FROM = 20  # seconds; in shorter films no light turns red


@dataclass(frozen=True)
class Post:
    """Where a camera is, in degrees, and when its film starts, in whole seconds of UTC."""

    name: str
    latitude: float
    longitude: float
    start: datetime


@dataclass(frozen=True, eq=False)
class Traffic:
    """Vehicles that drive along one road, past its cameras."""

    posts: tuple[Post, ...]  # the cameras, in the order in which the road passes them
    # ``[vehicles, cameras]``, seconds from the start of each film, NaN where a vehicle does not
    # pass
    arrivals: np.ndarray
    # bool ``[vehicles]``, who comes the other way, past one camera, and turns off
    oncoming: np.ndarray


@dataclass(frozen=True, eq=False)
class Passage:
    """A vehicle before one camera, in the street's frame."""

    vehicle: int  # its number
    x: np.ndarray  # ``[frames]``, metres along the street
    y: float  # metres across
    yaw: float  # radians


def draw_traffic(
    rng: Rng, vehicles: int, cameras: int, seconds: float, *, first: int = 1
) -> Traffic:
    """Draw vehicles on a road past cameras, each of which films them for some seconds.

    Most vehicles pass all cameras, the others at least two of them; of six, one comes the other
    way. Films of later cameras start later, by what the way there usually takes. ``first`` is the
    first camera's number.
    """
    ways = rng.uniform(250, 600, cameras - 1)
    usual = np.round(ways / rng.uniform(8, 13, cameras - 1))
    starts = np.concatenate([[0], np.cumsum(usual)])
    margin = min(4.0, seconds / 4)
    # Platoons, as traffic lights let them through.
    close = rng.random(vehicles) < 0.6
    gaps = np.where(close, rng.uniform(0.8, 2, vehicles), rng.uniform(4, 10, vehicles))
    gaps = np.cumsum(gaps)
    entered = margin + (seconds - 2 * margin) * gaps / gaps[-1]
    late = rng.normal(0, 0.07, (vehicles, 1)) * starts + rng.normal(0, 1, (vehicles, cameras))
    arrivals = np.clip(entered[:, None] + late, margin, seconds - margin)
    oncoming = rng.permutation(vehicles) < vehicles // 6
    for row, turns_off in zip(arrivals, oncoming, strict=True):
        row[~_passed(rng, cameras, turns_off)] = np.nan
    return Traffic(_posts(rng, ways, starts, first), arrivals, oncoming)


def _passed(rng: Rng, cameras: int, one: bool) -> np.ndarray:
    """Which cameras a vehicle passes: bool ``[cameras]``, one after the other."""
    count = 1 if one else cameras
    if not one and rng.random() < 0.4:
        count = int(rng.integers(min(2, cameras), cameras + 1))
    enters = int(rng.integers(cameras - count + 1))
    numbers = np.arange(cameras)
    return (numbers >= enters) & (numbers < enters + count)


def _posts(rng: Rng, ways: np.ndarray, starts: np.ndarray, first: int) -> tuple[Post, ...]:
    bearings = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.3, len(ways)))
    begin = _FIRST_DAY + timedelta(hours=int(rng.integers(6, 18)), minutes=int(rng.integers(60)))
    north = np.concatenate([[0], np.cumsum(ways * np.cos(bearings))])
    east = np.concatenate([[0], np.cumsum(ways * np.sin(bearings))])
    east /= np.cos(np.radians(_LATITUDE))
    return tuple(
        Post(
            f"c{first + number:03}",
            round(_LATITUDE + float(north[number]) / _DEGREE, 6),
            round(_LONGITUDE + float(east[number]) / _DEGREE, 6),
            begin + timedelta(seconds=float(starts[number])),
        )
        for number in range(len(starts))
    )


def drive(
    rng: Rng,
    street: Street,
    arrivals: np.ndarray,
    oncoming: np.ndarray,
    lengths: np.ndarray,
    seconds: float,
) -> list[Passage]:
    """How vehicles drive past one camera: in lanes, none into another.

    All of a lane drive at the same speed at any time, so that their order and distances stay.
    ``arrivals`` (seconds, NaN where one does not pass), ``oncoming`` and ``lengths`` (metres) are
    ``[vehicles]``.
    """
    toward = 1 if rng.random() < 0.5 else -1  # of those who do not come the other way
    passages = []
    for direction, drivers in ((toward, ~oncoming), (-toward, oncoming)):
        lanes = street.lanes[np.sign(street.middle - street.lanes) == direction]
        times = np.arange(round(seconds * RATE)) / RATE
        flow = _flow(rng, times)
        rears: dict[float, float] = {}  # of the last vehicle, by lane
        who = np.flatnonzero(drivers & ~np.isnan(arrivals))
        for vehicle in who[np.argsort(arrivals[who])].tolist():
            lane = float(rng.choice(lanes))
            half = float(lengths[vehicle]) / 2
            place = float(np.interp(arrivals[vehicle], times, flow))
            place = max(place, rears.get(lane, -np.inf) + _LEAST_GAP + half)
            rears[lane] = place + half
            x = PASSED + direction * (flow - place)
            yaw = (0.0 if direction > 0 else np.pi) + rng.normal(0, 0.01)
            passages.append(Passage(vehicle, x, lane + rng.normal(0, 0.15), yaw))
    return passages


def _flow(rng: Rng, times: np.ndarray) -> np.ndarray:
    """Metres that traffic has driven by each time; it may stop once, at a light."""
    speed = np.full(len(times), rng.uniform(8, 13))
    if times[-1] > _STOP_FROM and rng.random() < 0.5:
        begins = rng.uniform(0.2, 0.6) * times[-1]
        brakes, stays = 4.0, rng.uniform(2, 6)
        edges = [begins, begins + brakes, begins + brakes + stays, begins + 2 * brakes + stays]
        speed *= np.interp(times, edges, [1, 0, 0, 1])
    return np.cumsum(speed) / RATE
