"""How much of the processor each engine of serving.json uses: its arithmetic beside the fastest.

    python benchmarks/roofline.py [--serving benchmarks/serving.json]

A network's arithmetic is counted by PyTorch: its products and sums in convolutions and matrix
products, those with the padding's zeros too, which engines can leave out. The processor's fastest
is measured here, with as many threads: oneDNN's best product of square matrices, in float32 and in
bfloat16. What is left says what any engine could still gain. Prints a Markdown table; wants the
machine that serving.json was made on, and nothing beside it. Needs the extra [torch].
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import serving
import torch
from torch.utils.flop_counter import FlopCounterMode

SIDES, CALLS = (512, 768, 1024, 2048, 4096), 20
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serving", type=Path, default=serving.HERE / "serving.json")
    options = parser.parse_args()
    figures = json.loads(options.serving.read_text())
    here = serving.processor()
    if here != figures["processor"]:
        raise SystemExit(f"{options.serving} was made on {figures['processor']}; this is {here}")
    rows = figures["rows"]
    work = {name: arithmetic(name) for name in dict.fromkeys(row["network"] for row in rows)}
    fastest = {name: fastest_product(kind) for name, kind in TYPES.items()}
    for name, speed in fastest.items():
        print(f"{name}: {speed / 1e9:.0f} GFLOP/s in the fastest product of matrices")
    print("\n| network (GFLOP an image) | engine | batch | images/s | GFLOP/s | of the fastest |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for network, batch, start in cases(rows):
        row = best(rows, network, batch, start)
        if row is None:
            continue
        speed = row["images_per_second"] * work[network]
        share = speed / fastest[start.split()[0]]
        print(
            f"| {network} ({work[network] / 1e9:.1f}) | {row['engine']} | {batch} | "
            f"{row['images_per_second']:.1f} | {speed / 1e9:.0f} | {share:.0%} |"
        )


def arithmetic(network: str) -> int:
    """Products and sums for one image."""
    built = serving.torch_network(network)
    given = map(torch.from_numpy, serving.inputs(network, 1))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        built(*given)
    return counter.get_total_flops()


def fastest_product(kind: torch.dtype) -> float:
    """Products and sums a second, of the fastest call of all sizes."""
    return max(2 * side**3 / seconds for side in SIDES for seconds in product(side, kind))


def product(side: int, kind: torch.dtype) -> Iterator[float]:
    """Seconds of each call."""
    one, other = (torch.randn(side, side).to(kind) for _ in range(2))
    result = torch.empty(side, side, dtype=kind)
    for _ in range(CALLS):
        start = time.perf_counter()
        torch.mm(one, other, out=result)
        yield time.perf_counter() - start


def cases(rows: list[dict]) -> list[tuple[str, int, str]]:
    places = dict.fromkeys((row["network"], row["batch"]) for row in rows)
    starts = [f"{kind} {whose}" for kind in TYPES for whose in ("ours", "PyTorch")]
    return [(network, batch, start) for network, batch in places for start in starts]


def best(rows: list[dict], network: str, batch: int, start: str) -> dict | None:
    """The fastest engine's row whose name starts so."""
    own = [row for row in rows if (row["network"], row["batch"]) == (network, batch)]
    own = [row for row in own if row["engine"].startswith(start)]
    return max(own, key=lambda row: row["images_per_second"], default=None)


if __name__ == "__main__":
    main()
