"""Images/s a worker of the input pipeline, beside the way the model zoo reads its data.

    python benchmarks/pipeline.py

The model zoo's way, written from its description: decode the image and each stored map (36 JPEG
files for heatmaps, 13 for segments), resize each map to the image, stack, resize the stack, divide
and normalise, all in Python. Both run with one worker on the same files, in turn.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import mindspore.dataset as ds
import numpy as np

from multitasknet.data.layouts import read_dataset
from multitasknet.data.pack import write_pack
from multitasknet.data.pipeline import create_pipeline
from multitasknet.data.records import Record, Split
from multitasknet.models.multitasknet.spec import MultiTaskNetSpec, Variant
from multitasknet.vehicle.maps import draw_heatmaps, draw_segments

SIZE = (256, 256)
BATCH = 8
MEAN = np.array([0.485, 0.456, 0.406] + [0.449] * 49, dtype=np.float32)
STD = np.array([0.229, 0.224, 0.225] + [0.226] * 49, dtype=np.float32)
GOALS = {Variant.RGB: 1, Variant.HEATMAP: 5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        stored = _draw(Path(folder, "data"), options.images)
        pack = read_dataset(write_pack(stored, Path(folder, "pack"), progress=False)).train
        drawn = Split("train", tuple(_without_maps(record) for record in stored.train.records))
        print(f"{'images/s':16} zoo's way  stored maps  from keypoints  pack   pack / zoo's way")
        for variant in Variant:
            ways = {
                "zoo": lambda variant=variant: _zoo_way(stored.train, variant),
                "stored": lambda variant=variant: _ours(stored.train, variant),
                "drawn": lambda variant=variant: _ours(drawn, variant),
                "pack": lambda variant=variant: _ours(pack, variant),
            }
            _print_row(variant, _rates(ways, options.images, options.runs))


def _rates(ways: dict[str, Callable], images: int, runs: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            start = time.perf_counter()
            count = sum(len(batch[0]) for batch in way())
            assert count == images
            times[name].append(time.perf_counter() - start)
    return {name: images / statistics.median(seconds) for name, seconds in times.items()}


def _print_row(variant: Variant, rates: dict[str, float]) -> None:
    ratio = rates["pack"] / rates["zoo"]
    goal = f" (goal {GOALS[variant]})" if variant in GOALS else ""
    print(
        f"{variant!s:16} {rates['zoo']:9.0f}  {rates['stored']:11.0f}  {rates['drawn']:14.0f}  "
        f"{rates['pack']:4.0f}   {ratio:.1f}{goal}"
    )


def _ours(split: Split, variant: Variant) -> Iterator:
    pipeline = create_pipeline(split, MultiTaskNetSpec(variant), SIZE, batch_size=BATCH, workers=1)
    return pipeline.create_tuple_iterator(num_epochs=1, output_numpy=True)


def _zoo_way(split: Split, variant: Variant) -> Iterator:
    class Source:
        def __len__(self) -> int:
            return len(split)

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            record = split.records[index]
            return _zoo_image(record, variant), record.keypoints.reshape(-1)

    source = ds.GeneratorDataset(Source(), ["image", "pose"], shuffle=False, num_parallel_workers=1)
    return source.batch(BATCH).create_tuple_iterator(num_epochs=1, output_numpy=True)


def _zoo_image(record: Record, variant: Variant) -> np.ndarray:
    image = cv2.cvtColor(cv2.imread(str(record.image)), cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    channels = [image]
    for wanted, folder, count in (
        (variant.heatmaps, record.heatmaps, 36),
        (variant.segments, record.segments, 13),
    ):
        for index in range(count if wanted else 0):
            stored = cv2.imread(str(folder / f"{index:02}.jpg"), cv2.IMREAD_GRAYSCALE)
            channels.append(cv2.resize(stored, (width, height))[..., None])
    stack = np.concatenate(channels, axis=2)
    # OpenCV resizes at most four channels at once in its fast path, any number in its plain one.
    stack = cv2.resize(stack, SIZE) if stack.shape[2] <= 4 else _resize_each(stack)
    count = stack.shape[2]
    stack = (stack.astype(np.float32) / 255 - MEAN[:count]) / STD[:count]
    return np.ascontiguousarray(stack.transpose(2, 0, 1))


def _resize_each(stack: np.ndarray) -> np.ndarray:
    return np.stack([cv2.resize(channel, SIZE) for channel in stack.transpose(2, 0, 1)], axis=2)


def _draw(root: Path, images: int) -> object:
    """A data set of the size of VeRi's crops, with stored maps."""
    rng = np.random.default_rng(0)
    (root / "image_train").mkdir(parents=True)
    rows = []
    for number in range(images):
        name = f"{1 + number % 10:04}_c{1 + number % 4:03}_{number:08}_0.jpg"
        width, height = rng.integers(150, 350, 2).tolist()
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        cv2.imwrite(str(root / "image_train" / name), cv2.resize(coarse, (width, height)))
        pose = rng.uniform(0, 1, (36, 3)).astype(np.float32) * (width, height, 1)
        rows.append([name, 1 + number % 10, 1, 1, *pose.reshape(-1).tolist()])
        _store_maps(root, Path(name).stem, pose, width, height)
    with (root / "label_train.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return read_dataset(root)


def _store_maps(root: Path, stem: str, pose: np.ndarray, width: int, height: int) -> None:
    stacks = {
        "heatmap": draw_heatmaps(pose, width=width, height=height),
        "segment": draw_segments(pose, width=width, height=height),
    }
    for kind, stack in stacks.items():
        folder = root / f"{kind}_train" / stem
        folder.mkdir(parents=True)
        for index, values in enumerate(stack):
            cv2.imwrite(str(folder / f"{index:02}.jpg"), values)


def _without_maps(record: Record) -> Record:
    return replace(record, heatmaps=None, segments=None)


if __name__ == "__main__":
    main()
