"""How often a generated vehicle's colour could be named rightly at best.

    python benchmarks/colors.py --data HELD_OUT

The names overlap, as they do on real vehicles: a brown may be the green of another. Whoever knew
the paint exactly, in no light and before no camera, would take the name that is most probable for
it; its share among 100 paints around it, of many drawn, tells how probable each is. The names are
as common as in the query and gallery of HELD_OUT.
"""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from multitasknet import COLORS, read_dataset
from vehiclesynth.look import draw_paint

DRAWN, ASKED, AROUND = 20_000, 2_000, 100  # paints of each name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    dataset = read_dataset(options.data, ("query", "gallery"), check=False)
    records = chain(dataset.query.records, dataset.gallery.records)
    counts = np.bincount([one.color_id or 0 for one in records], minlength=len(COLORS) + 1)[1:]
    shares = counts / counts.sum()
    right = named_rightly(shares)
    for name, share in zip(COLORS, right, strict=True):
        print(f"{name:8} {100 * share:5.1f} %")
    print(f"{'all':8} {100 * right @ shares:5.1f} %")


def named_rightly(shares: np.ndarray) -> np.ndarray:
    """The share of each name's paints whose most probable name it is, ``[10]``."""
    rng = np.random.default_rng(0)
    known = np.concatenate([paints(rng, name, DRAWN) for name in COLORS])
    tree = cKDTree(known)
    right = []
    for number, name in enumerate(COLORS):
        _, near = tree.query(paints(rng, name, ASKED), AROUND)
        votes = np.stack([(near // DRAWN == other).sum(1) for other in range(len(COLORS))], 1)
        right.append(((votes * shares).argmax(1) == number).mean())
    return np.array(right)


def paints(rng: np.random.Generator, name: str, count: int) -> np.ndarray:
    """Drawn colours ``[N, 3]`` on a scale on which steps look alike, roughly."""
    return np.cbrt([draw_paint(rng, name).color for _ in range(count)])


if __name__ == "__main__":
    main()
