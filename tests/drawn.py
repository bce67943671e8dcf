"""Small data sets that the tests draw: coloured rectangles with ids, in all layouts."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from multitasknet.vehicle.maps import draw_heatmaps, draw_segments

RGB = {1: (230, 210, 40), 2: (230, 130, 20), 5: (190, 30, 30), 6: (40, 70, 190)}
SPLIT_FOLDERS = {"train": "train", "query": "query", "gallery": "test"}


@dataclass(frozen=True)
class Drawn:
    """One image to be."""

    split: str
    vehicle: int
    camera: int
    index: int

    @property
    def name(self) -> str:
        return f"{self.vehicle:04}_c{self.camera:03}_{self.index:08}_0.jpg"

    @property
    def color(self) -> int:
        return sorted(RGB)[self.vehicle % len(RGB)]

    @property
    def kind(self) -> int:
        return 1 + self.vehicle % 3

    @property
    def keypoints(self) -> np.ndarray:
        rng = np.random.default_rng([self.vehicle, self.camera, self.index])
        pose = rng.uniform(0, 60, (36, 3)).astype(np.float32)
        pose[:, 2] = rng.uniform(0, 1.1, 36)
        # The bonnet, always seen: a rectangle.
        pose[[15, 16, 34, 33]] = [(10, 10, 1), (50, 10, 1), (50, 40, 1), (10, 40, 1)]
        return pose.round(3)


def plan(vehicles: int = 3, cameras: int = 2, images: int = 2) -> list[Drawn]:
    """Train vehicles 1..n, and others in query (one image a camera) and gallery."""
    train, test = [], []
    for vehicle in range(1, 1 + vehicles):
        for camera in range(1, 1 + cameras):
            train += [Drawn("train", vehicle, camera, index) for index in range(images)]
            test.append(Drawn("query", 100 + vehicle, camera, 0))
            test += [Drawn("gallery", 100 + vehicle, camera, 1 + index) for index in range(images)]
    return train + test


def of_splits(drawn: list[Drawn]) -> Iterator[tuple[str, list[Drawn]]]:
    for split, folder in SPLIT_FOLDERS.items():
        yield folder, [one for one in drawn if one.split == split]


def draw_images(root: Path, drawn: list[Drawn]) -> None:
    for one in drawn:
        folder = root / f"image_{SPLIT_FOLDERS[one.split]}"
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([one.camera, one.index])
        width, height = 64 + int(rng.integers(20)), 60 + int(rng.integers(20))
        image = Image.new("RGB", (width, height), tuple(rng.integers(90, 160, 3).tolist()))
        pen = ImageDraw.Draw(image)
        pen.rectangle((10, 10 + one.vehicle % 7, 54, 50), fill=RGB[one.color])
        pen.rectangle((20, 20, 20 + 5 * one.kind, 30), fill=(30, 30, 30))
        image.save(folder / one.name, quality=90)


def pamtri(root: Path, drawn: list[Drawn], *, maps: bool = False) -> Path:
    """The PAMTRI layout, on request with stored heatmaps and segments."""
    draw_images(root, drawn)
    for folder, ones in of_splits(drawn):
        ids = [(one.name, one.vehicle, one.color, one.kind) for one in ones]
        poses = [one.keypoints.ravel().tolist() for one in ones]
        write_csv(root / f"label_{folder}.csv", map(chain, ids, poses))
        for one in ones if maps else ():
            with Image.open(root / f"image_{folder}" / one.name) as image:
                size = dict(zip(("width", "height"), image.size, strict=True))
            sure = one.keypoints * [1, 1, 0] + [0, 0, 1]  # segments are drawn whatever they are
            for kind, stack in (
                ("heatmap", draw_heatmaps(one.keypoints, **size)),
                ("segment", draw_segments(sure, **size)),
            ):
                target = root / f"{kind}_{folder}" / Path(one.name).stem
                target.mkdir(parents=True)
                for index, values in enumerate(stack):
                    Image.fromarray(values).save(target / f"{index:02}.jpg", quality=95)
    return root


def veri(root: Path, drawn: list[Drawn]) -> Path:
    """Raw VeRi: XML labels in gb2312 and lists of names."""
    draw_images(root, drawn)
    for name, splits in (("train", ("train",)), ("test", ("query", "gallery"))):
        items = "".join(
            f'<Item imageName="{one.name}" vehicleID="{one.vehicle:04}" '
            f'cameraID="c{one.camera:03}" colorID="{one.color}" typeID="{one.kind}" />\n'
            for one in drawn
            if one.split in splits
        )
        text = (
            '<?xml version="1.0" encoding="gb2312"?>\n<TrainingImages Version="1.0">\n'
            f'<Items number="1" note="\u8f66">\n{items}</Items>\n</TrainingImages>\n'
        )
        (root / f"{name}_label.xml").write_bytes(text.encode("gb2312"))
    for folder, ones in of_splits(drawn):
        names = [one.name for one in ones]
        (root / f"name_{folder}.txt").write_text("\n".join(names) + "\n")
    return root


def plain_csv(root: Path, drawn: list[Drawn]) -> Path:
    """A folder with CSV files; the gallery leaves camera, colour and type out."""
    draw_images(root, drawn)
    for folder, ones in of_splits(drawn):
        columns = slice(2 if folder == "test" else 5)
        rows = [("image", "vehicle_id", "camera", "color", "type")]
        for one in ones:
            image, camera = f"image_{folder}/{one.name}", f"c{one.camera:03}"
            rows.append((image, one.vehicle, camera, one.color, "sedan"))
        name = "gallery" if folder == "test" else folder
        write_csv(root / f"{name}.csv", [row[columns] for row in rows])
    return root


def write_csv(path: Path, rows: Iterable[Iterable]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
