"""What each part of the identity weights' training is worth: trained without it, on less data.

    multitasknet synthesize --output ROOT --vehicles 830 --images 8 --cameras 80 --pixels 144
    multitasknet pose --data ROOT --pose synthetic --no-flip-test --output POSED
    python benchmarks/ablations.py --data POSED --held-out HELD_OUT --shifted SHIFTED

Each row is ``examples/train_multitasknet.py`` from the same seeds, for as many steps and at 64
pixels, with one thing changed. HELD_OUT has a query and a test part with estimated poses; SHIFTED
is the same as a poor camera at dusk would have taken it (``--shift`` makes it of HELD_OUT; poses
are to be estimated after that). The first row's seeds say how much of a difference is chance.
Writes ablations.json and ablations.md into --output after each training. Wants a GPU: half a minute
of a large one is about an hour of two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from teaching import shifted_copy

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))
import train_multitasknet as script  # noqa: E402
from torch_training import Plan, Training, start_anew_with_environment, train  # noqa: E402

METRICS = ("mAP", "Rank-1", "color", "type")


def as_they_are(pixels: np.ndarray, *_: object) -> np.ndarray:
    return pixels


def not_covered(pixels: np.ndarray, points: np.ndarray, _: object) -> tuple[np.ndarray, np.ndarray]:
    return pixels, np.zeros(len(points), bool)


def not_warped(picture: script.Picture, size: int, _: object) -> tuple[np.ndarray, np.ndarray]:
    return script.fitted(picture, size)


def without_pose(
    batch: list[torch.Tensor], inputs_of: Any = script.inputs_of
) -> tuple[torch.Tensor, torch.Tensor]:
    pixels, segments, pose = batch[:3]
    return inputs_of([pixels, torch.zeros_like(segments), torch.zeros_like(pose)])


# What is set in the script instead.
CHANGES: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "no poses, in training and after": {"inputs_of": without_pose},
    "colour and type are not taught": {"COLOR_WEIGHT": 0.0, "TYPE_WEIGHT": 0.0},
    "no comparing within the batch": {"COMPARING_WEIGHT": 0.0},
    "no identity classifier": {"IDENTITY_WEIGHT": 0.0},
    "two pictures of a vehicle in a batch": {"IMAGES": 2},
    "vehicles of any look in a batch": {"ALIKE": 1},
    "no style mixing": {"MIXED": 0.0},
    "light and colours as drawn": {"relit": as_they_are, "saturated": as_they_are},
    "sharpness, noise and JPEG as drawn": {"retaken": as_they_are},
    "nothing laid over": {"covered": not_covered},
    "cut out and turned as drawn": {"warped": not_warped},
}


def main() -> None:
    start_anew_with_environment()
    options = read_options()
    if options.shift:
        shifted_copy(options.held_out, options.shift)
        return
    size = options.size
    held_out = {
        name: script.HeldOut.read(root, size)
        for name, root in (("as generated", options.held_out), ("shifted", options.shifted))
    }
    pictures = script.read_training(options.data)
    facts = {"device": device_name(options.device), "pictures": len(pictures), "size": size}
    facts |= {"steps": options.steps, "batch_size": options.batch_size}
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        for change in options.changes:
            with changed(**CHANGES[change]):
                network, seconds = trained(pictures, seed, options)
                found = {name: script.validate(network, one) for name, one in held_out.items()}
            rows.append({"change": change, "seed": seed, "seconds": seconds, **found})
            print(json.dumps(rows[-1]), flush=True)
            write(facts | {"rows": rows}, options.output)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="to train on, with poses")
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--shifted", type=Path)
    parser.add_argument("--shift", type=Path, metavar="SHIFTED", help="make it, and do no more")
    parser.add_argument("--changes", nargs="+", default=list(CHANGES), choices=CHANGES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=HERE, metavar="DIR")
    return parser.parse_args()


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device


@contextmanager
def changed(**values: Any) -> Iterator[None]:
    """The script with other values of its names; its workers are made of it after that."""
    with ExitStack() as stack:
        for name, value in values.items():
            stack.enter_context(mock.patch.object(script, name, value))
        yield


def trained(
    pictures: list[script.Picture], seed: int, options: argparse.Namespace
) -> tuple[torch.nn.Module, float]:
    """The averaged network, and the seconds that its training took."""
    torch.manual_seed(seed)
    stages = ((options.size, options.steps),)
    batches = script.Batches(pictures, stages=stages, batch=options.batch_size, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(
            state=Path(folder, "state"),
            key="",
            learning_rate=options.learning_rate,
            device=options.device,
            steps=options.steps,
            workers=options.workers,
            average=script.AVERAGE,
        )
        network = script.MultiTaskNet(script.count_vehicles(pictures))
        training = Training.of(network, plan)
        train(training, script.loss_of, batches, plan)
    order = np.random.default_rng(seed).permutation(len(pictures))
    script.estimate_statistics(training.average, [pictures[i] for i in order], options.size)
    return training.average, training.seconds


def write(figures: dict[str, Any], folder: Path) -> None:
    (folder / "ablations.json").write_text(json.dumps(figures, indent=1) + "\n")
    (folder / "ablations.md").write_text(report(figures))


def report(figures: dict[str, Any]) -> str:
    """Means over the seeds; with the first row, the largest difference between its seeds."""
    rows = figures["rows"]
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        "# Ablations",
        "",
        f"Written by `ablations.py`: {figures['pictures']} pictures, {figures['size']} pixels, "
        f"{figures['steps']} steps of {figures['batch_size']}, seeds {', '.join(map(str, seeds))} "
        f"(means of those done); {figures['device']}. In percent.",
        "",
        f"| | seeds | {' | '.join(METRICS)} | {' | '.join(f'shifted: {m}' for m in METRICS)} |",
        "| --- |" + " ---: |" * (1 + 2 * len(METRICS)),
    ]
    for change in dict.fromkeys(row["change"] for row in rows):
        of_change = [row for row in rows if row["change"] == change]
        values = np.array(
            [[row[s][m] for s in ("as generated", "shifted") for m in METRICS] for row in of_change]
        )
        lines.append(_row(change, len(values), values.mean(0)))
        if change == "as shipped" and len(values) > 1:
            lines.append(_row("largest difference of its seeds", len(values), np.ptp(values, 0)))
    return "\n".join(lines) + "\n"


def _row(name: str, seeds: int, values: np.ndarray) -> str:
    return f"| {name} | {seeds} | {' | '.join(f'{value:.1f}' for value in values)} |"


if __name__ == "__main__":
    main()
