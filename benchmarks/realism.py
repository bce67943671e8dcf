"""Generated pictures beside real ones: how far apart each statistic lies.

    python benchmarks/realism.py [--pictures 300] [--prior real] [--output FILE.md]

The real figures are of 2,899 real crops of VeRi-776's test part; statistics only. 412 of them have
the published 36 predicted points ("net"); "hand" is 600 rows of the hand-made annotations.

KS* is the largest |F(q) - p| of the generated distribution F over the real percentiles q at p = 5,
25, 50, 75 and 95 %: 0 the same, 1 disjoint. How each figure is taken: `appearance.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import appearance
import cv2
import numpy as np
from tables import table

from multitasknet.vehicle.attributes import COLORS, TYPES
from vehiclesynth import Shot, make_plan, take_picture

PERCENTILES = (5, 25, 50, 75, 95)
IMAGE = {
    "width": "113/171/222/288/465",
    "height": "96/143/196/264/416",
    "longer side": "118/177/233/308/494",
    "width / height": "0.75/0.95/1.13/1.35/1.90",
    "JPEG quality": "95/95/95/95/95",
    "bits per pixel": "1.98/2.4/2.8/3.3/4.0",
    "brightness 0..255": "69/91/108/126/151",
    "contrast (std)": "34/42/48/54/63",
    "saturation %": "7.2/9.7/12.4/17.2/26",
    "a* (green to red)": "-2.6/-1.13/0.12/1.50/7.1",
    "b* (blue to yellow)": "-4.7/-2.8/-1.05/1.18/9.5",
    "pixels < 16 %": "0.00/0.42/0.82/1.23/2.4",
    "pixels > 240 %": "0.00/0.00/0.03/0.14/0.99",
    "Laplacian variance @128": "295/735/1176/1752/2626",
    "top octave % @128": "0.45/1.92/3.5/5.7/10.2",
    "top octave % native": "0.10/0.45/0.95/1.77/4.3",
    "noise, grey levels": "0.23/0.31/0.41/0.58/0.98",
    "Laplacian var. on vehicle": "492/1126/1699/2413/3632",
    "and beside it": "164/512/893/1369/2236",
    "L* of the windscreen": "18.5/33/51/63/76",
    "L* beside the vehicle": "28/41/48/54/61",
}
POSE = {
    "points' box, % of image": "51/62/69/74/80",
    "margin left, % of width": "5.1/5.9/6.8/8.1/13.3",
    "margin right": "2.0/4.4/6.6/9.7/14.5",
    "margin top, % of height": "5.8/6.7/7.6/10.6/16.1",
    "margin bottom": "3.6/6.1/11.2/16.0/23",
    "points outside by > 2 %": "0.00/0.00/0.00/0.00/0.00",
    "visible points of 36": "22/23/24/25/26",
    "elevation, degrees": "7.0/10.6/13.8/17.3/25",
    "roll, degrees": "-9.3/-5.0/-0.73/2.8/9.0",
    "distance, m": "11.0/14.6/18.8/25/59",
    "surfaces that pass (net)": "3.0/7.0/8.0/9.0/10.0",
    "of them facing away (net)": "0.00/1.00/1.00/2.0/2.0",
    "elevation, degrees (net)": "6.3/11.3/15.5/22/33",
}
CONFIDENCE = {
    "confidence of visible points": "0.66/0.90/0.93/0.95/0.97",
    "and of the others": "0.36/0.64/0.75/0.91/1.00",
}
SECTORS = {"hand": (40, 8, 0, 9, 37, 2, 2, 1), "net": (32, 13, 0, 11, 34, 5, 3, 2)}
# Pairs of keypoints, the sector that they are looked at from, and how many % people marked.
MARKED = {
    "rear roof corners from the front": ((13, 31), 0, 99),
    "rear window corners from the front": ((12, 30), 0, 65),
    "front roof corners from the rear": ((14, 32), 4, 100),
    "windscreen corners from the rear": ((15, 33), 4, 61),
}
COLOR_SHARES = dict(zip(COLORS, (4, 1, 7, 18, 10, 2, 21, 2, 2, 34), strict=True))
TYPE_SHARES = dict(zip(TYPES, (48, 19, 3, 7, 0, 8, 2, 13, 1), strict=True))
# L*, a* and b* of the body's panels, 10/50/90 % of the crops of each name.
PAINTS = {
    "yellow": "35/50/62 -4/1/5 2/16/24",
    "orange": "30/39/72 1/8/14 -2/6/20",
    "green": "16/32/59 -5/-1/1 -7/-4/3",
    "gray": "34/59/90 -2/0/1 -6/-3/0",
    "red": "25/36/64 4/16/29 -1/5/14",
    "blue": "17/25/32 -2/0/2 -11/-6/-1",
    "white": "35/67/92 -3/0/1 -4/-2/2",
    "golden": "32/56/91 -2/0/2 -2/1/4",
    "brown": "31/42/73 0/2/8 -3/0/4",
    "black": "15/33/62 -2/0/1 -7/-5/-2",
}
MISSING = "\N{EN DASH}"
SHORT = 0.8  # the real distances were fitted, which finds them 20 % short


class Sample(NamedTuple):
    """A picture that was generated, of which vehicle, and its sector: 0 front, 2 left, 4 rear."""

    shot: Shot
    color: str
    type: str

    @property
    def sector(self) -> int:
        return round(self.shot.view.yaw / 45) % 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=300, help="how many to measure (300)")
    parser.add_argument("--prior", choices=("even", "real"), default="real", help="(real)")
    parser.add_argument("--seed", type=int, default=1, help="of the generator (1)")
    parser.add_argument("--output", type=Path, help="a Markdown file; otherwise stdout")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    samples = list(generated(options.prior, options.pictures, options.seed))
    paint = paint_rows(options.seed, max(options.pictures // 5, 1))
    text = report(samples, f"prior `{options.prior}`, seed {options.seed}", paint)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


def generated(prior: str, count: int, seed: int) -> Iterator[Sample]:
    """Take ``count`` pictures: two of each vehicle, by 20 cameras, as many as VeRi-776 has."""
    plans = make_plan(max(-(-count // 2), 20), 2, 20, seed, prior=prior)
    every = [(plan, picture) for plan in plans for picture in plan.pictures]
    for plan, picture in every[:count]:
        shot = take_picture(plan, picture, seed=seed, prior=prior)
        yield Sample(shot, COLORS[plan.color_id - 1], TYPES[plan.type_id - 1])


def measure_pose(shot: Shot) -> dict[str, float]:
    """The rows of ``POSE``."""
    return {
        **appearance.measure_pose(shot.jpeg, shot.keypoints),
        "visible points of 36": float((shot.visibility == 0).sum()),
        "elevation, degrees": shot.view.elevation,
        "elevation, degrees (net)": shot.view.elevation,
        "roll, degrees": shot.view.roll,
        "distance, m": shot.view.distance * SHORT,
    }


def ks_star(values: np.ndarray, real: str) -> float:
    """KS* against five percentiles; 0 or 1 where they are all one, which the median must equal.

    Values are read to hundredths like the real ones, and where many are equal, F jumps: any height
    of the jump will do.
    """
    values, points = np.round(values, 2), np.array(real.split("/"), dtype=float)
    if np.ptp(points) == 0:
        return float(np.median(values) != points[0])
    return max(
        max(np.mean(values < point) - share / 100, share / 100 - np.mean(values <= point), 0.0)
        for point, share in zip(points, PERCENTILES, strict=True)
    )


# The report.


class Row(NamedTuple):
    """A statistic beside the real one; ``ks`` is NaN where it could not be measured."""

    name: str
    real: str
    made: str
    ks: float = np.nan
    inside: bool = False

    @property
    def cells(self) -> tuple[str, ...]:
        known = (f"{self.ks:.2f}", "yes" if self.inside else "no")
        return *self[:3], *(known if np.isfinite(self.ks) else (MISSING, MISSING))


def report(samples: list[Sample], how: str, paint: list[tuple[str, ...]]) -> str:
    """Everything as Markdown; ``paint`` as of :func:`paint_rows`."""
    shots = [sample.shot for sample in samples]
    image = compare(IMAGE, [appearance.measure_image(one.jpeg, one.keypoints) for one in shots])
    pose = compare(POSE, [measure_pose(shot) for shot in shots])
    confidence = np.concatenate([shot.keypoints[:, 2] for shot in shots])
    visible = np.concatenate([shot.visibility == 0 for shot in shots])
    sure = [
        compare_row(name, real, confidence[chosen])
        for (name, real), chosen in zip(CONFIDENCE.items(), (visible, ~visible), strict=True)
    ]
    known = [one for one in image + pose if np.isfinite(one.ks)]
    widest = sorted(known, key=lambda one: -one.ks)[:10]
    halved = np.mean([appearance.is_420(shot.jpeg) for shot in shots])
    columns = ("real", "generated", "KS*", "median inside 25 to 75")
    parts = [
        f"# Generated pictures beside real ones\n\n{len(samples)} pictures, {how}; percentiles "
        "5/25/50/75/95. The real ones: 2,899 real crops of VeRi-776's test part; statistics only.",
        f"Mean KS* of the image rows: {np.nanmean([one.ks for one in image]):.3f}. Medians inside "
        f"the real 25 to 75 range: {sum(one.inside for one in known)} of {len(known)}.",
        table(("image", *columns), [one.cells for one in image]),
        f"4:2:0 JPEG: real 100 %, generated {100 * halved:.0f} %.",
        table(("pose (hand)", *columns), [one.cells for one in pose]),
        f"Generated distances are multiplied by {SHORT}: the real ones were fitted, which finds "
        "them 20 % short.",
        table(("label file", *columns), [one.cells for one in sure]),
        table(("yaw, %", *SECTORS, "generated"), sector_rows(samples)),
        table(("marked visible, %", "hand", "generated"), marked_rows(samples)),
        share_table("colour", COLOR_SHARES, [sample.color for sample in samples]),
        share_table("type", TYPE_SHARES, [sample.type for sample in samples]),
        table(("body's L* a* b*, 10/50/90 %", "real", "generated"), paint),
        "The widest gaps:",
        table(("row", *columns), [one.cells for one in widest]),
    ]
    return "\n\n".join(parts) + "\n"


def compare(real: dict[str, str], measured: list[dict[str, float]]) -> list[Row]:
    return [compare_row(name, real[name], [one[name] for one in measured]) for name in real]


def compare_row(name: str, real: str, values: Iterable[float]) -> Row:
    known = np.array([value for value in values if np.isfinite(value)])
    if not known.size:
        return Row(name, real, MISSING)
    made = np.percentile(known, PERCENTILES)
    _, low, _, high, _ = map(float, real.split("/"))
    inside = low <= round(made[2], 2) <= high
    return Row(name, real, "/".join(map(number, made)), ks_star(known, real), inside)


def sector_rows(samples: list[Sample]) -> Iterator[tuple[object, ...]]:
    seen = [sample.sector for sample in samples]
    names = ("0 front", "45", "90 left side", "135", "180 rear", "225", "270", "315")
    for index, name in enumerate(names):
        yield name, *(shares[index] for shares in SECTORS.values()), percent(seen, index)


def marked_rows(samples: list[Sample]) -> Iterator[tuple[object, ...]]:
    for name, (pair, place, real) in MARKED.items():
        there = [one.shot.visibility[list(pair)] for one in samples if one.sector == place]
        yield name, real, percent(np.ravel(there).tolist(), 0)


def share_table(title: str, real: dict[str, int], found: list[str]) -> str:
    rows = [(name, share, percent(found, name)) for name, share in real.items()]
    return table((f"{title}, %", "real", "generated"), rows)


def paint_rows(seed: int, count: int) -> list[tuple[str, ...]]:
    """``count`` vehicles of the real prior, painted in each colour in turn."""
    plans = make_plan(4 * count, 2, 20, seed, prior="real")[:count]
    rows: list[tuple[str, ...]] = []
    for name, real in PAINTS.items():
        seen = []
        for plan in plans:
            painted = replace(plan, color_id=1 + COLORS.index(name))
            shot = take_picture(painted, plan.pictures[0], seed=seed, prior="real")
            color = appearance.body_color(shot.jpeg, shot.keypoints)
            seen += [color] if np.isfinite(color).all() else []
        made = np.percentile(seen, (10, 50, 90), axis=0).round().astype(int).T.tolist()
        text = " ".join("/".join(map(str, values)) for values in made)
        rows.append((f"{name} ({len(seen)})", real, text))
    return rows


def percent(values: list, wanted: object) -> str:
    """How many of the values are the wanted one."""
    return f"{100 * values.count(wanted) / len(values):.0f}" if values else MISSING


def number(value: float) -> str:
    """As the real figures are rounded: two decimals below 2, one below 20."""
    decimals = 2 if abs(value) < 2 else 1 if abs(value) < 20 else 0
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0 takes the sign off -0.0


if __name__ == "__main__":
    main()
