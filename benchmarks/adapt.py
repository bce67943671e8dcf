"""What adapting to crops without labels gains, and what it costs, round by round.

    multitasknet synthesize --output ROOT --vehicles 834 --test-vehicles 100 --images 6 \\
        --cameras 20 --pixels 160 --seed 78
    python benchmarks/adapt.py --data ROOT --shifted [--freeze blocks]

Adapts weights to the folder CROPS (ROOT's training pictures, whose labels are not looked at) in a
new folder and measures them on ROOT's query and gallery before, after the batch norm statistics
(round 0) and after each round. ``--shifted`` takes all pictures as a poor camera at dusk would have
taken them (``teaching.py``). A row is a round: its wall time, of which measuring is a part, the
clusters, and the gain in mAP over the weights as they were.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from shipped import at_dusk

from multitasknet import adapt
from multitasknet.runtime import usable_cores
from multitasknet.training.history import EpochRecord
from multitasknet.training.settings import FREEZES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--crops", type=Path, help="a folder (ROOT's training pictures)")
    parser.add_argument("--shifted", action="store_true")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, help="keep the results, and go on there")
    parser.add_argument("--freeze", choices=FREEZES, default="blocks")
    parser.add_argument("--pose", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--eps", type=float)
    parser.add_argument("--neighbors", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.shifted:
            options.data = at_dusk(options.data, Path(folder, "shifted"))
        measure(options, options.output or Path(folder) / "run")


def measure(options: argparse.Namespace, output: Path) -> None:
    started = time.perf_counter()
    result = adapt(
        options.crops or options.data / "image_train",
        output,
        data=options.data,
        weights=options.weights,
        pose=options.pose,
        rounds=options.rounds,
        freeze=options.freeze,
        lr=options.lr,
        eps=options.eps,
        neighbors=options.neighbors,
        workers=usable_cores(),
        on_round=lambda record: print(f"round {record.epoch}: {record.seconds:.0f} s", flush=True),
    )
    minutes = (time.perf_counter() - started) / 60
    history = result.history
    print(
        f"\n{history.settings['images']} crops, freeze {options.freeze}, {minutes:.1f} min in all\n"
    )
    print("| round | min | clusters | used % | silhouette | mAP | gain | Rank-1 | color | type |")
    print("| --- |" + " ---: |" * 9)
    first = history.before
    print(f"| before | | | | | {first['mAP']:.2f} | | {attributes(first)} |")
    for record in history.epochs:
        metrics = record.metrics
        gain = metrics["mAP"] - first["mAP"]
        print(
            f"| {record.epoch} | {record.seconds / 60:.1f} | {clusters(record)} | "
            f"{metrics['mAP']:.2f} | {gain:+.2f} | {attributes(metrics)} |"
        )


def clusters(record: EpochRecord) -> str:
    found = record.metrics
    if not record.losses:
        return "| |"
    return f"{found['clusters']} | {found['used']:.0f} | {found['silhouette']:.3f}"


def attributes(metrics: Mapping[str, float]) -> str:
    names = ("Rank-1", "color", "type")
    return " | ".join(f"{metrics[name]:.2f}" if name in metrics else "" for name in names)


if __name__ == "__main__":
    main()
