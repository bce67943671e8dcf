"""A small predictor for galleries, which sees mean colours alone, and pictures of one colour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from multitasknet.data.records import Record
from multitasknet.errors import ImageError
from multitasknet.gallery.gallery import Gallery
from multitasknet.gallery.store import halves, table_schema
from multitasknet.images import Picture, open_picture
from multitasknet.inference.prediction import EmbeddingOrigin, Prediction
from multitasknet.models.multitasknet.spec import MultiTaskNetSpec
from multitasknet.vehicle.pose import Pose

WIDTH = 32


class PixelSpec(MultiTaskNetSpec):
    """Of a network with short embeddings."""

    def output_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {"embedding": (WIDTH,)}


@dataclass
class PixelPredictor:
    """Embeds a picture as its mean colour times a fixed matrix."""

    weights: str = "ab" * 32
    batch_size: int = 8
    size: tuple[int, int] = (32, 32)
    spec: MultiTaskNetSpec = field(default_factory=PixelSpec)
    engine: Any = field(
        default_factory=lambda: SimpleNamespace(
            source="pixels", weights_sha256="ab" * 32, name="pixels", precision="float32"
        )
    )
    calibration: Any = None
    weights_file: Path | None = None
    pose_setting: str = "none"
    embedded: int = 0

    @property
    def origin(self) -> EmbeddingOrigin:
        return EmbeddingOrigin(self.weights, "segment", self.size, distance=self.spec.distance)

    def stream(
        self, images: Iterable[Any], keypoints: Any = None, *, skip: Any = None
    ) -> Iterator[Prediction]:
        for index, image in enumerate(images):
            record = image if isinstance(image, Record) else None
            picture = record.image if record else image
            if not isinstance(picture, Picture):
                picture = open_picture(picture)
            try:
                pixels, _ = picture.decode()
            except ImageError as error:
                if skip is None:
                    raise
                skip(picture.name, error)
                continue
            self.embedded += 1
            found = self.one(pixels, record.keypoints if record else None)
            shape = {"height": pixels.shape[0], "width": pixels.shape[1]}
            yield replace(found, source=picture.name, index=index, sha256=picture.sha256, **shape)

    def predict(self, images: Iterable[Any], keypoints: Any = None) -> list[Prediction]:
        return list(self.stream(images))

    def embed(self, images: Iterable[Any], keypoints: Any = None) -> np.ndarray:
        found = [one.embedding for one in self.stream(images)]
        return np.stack(found) if found else np.empty((0, WIDTH), np.float32)

    def one(self, pixels: np.ndarray, keypoints: np.ndarray | None = None) -> Prediction:
        mean = pixels.reshape(-1, 3).mean(axis=0) / 255
        matrix = np.random.default_rng(0).normal(size=(3, WIDTH))
        color = "red" if mean[0] > mean[2] else "blue"
        types = dict.fromkeys(self.spec.type_names, 1 / len(self.spec.type_names))
        return Prediction(
            source="",
            color_probabilities={color: 1.0}
            | {name: 0.0 for name in self.spec.color_names if name != color},
            type_probabilities=types,
            embedding=(mean @ matrix).astype(np.float32),
            pose=Pose.of(keypoints),
        )


def open_gallery(path: Path | str = "memory://", width: int = WIDTH) -> Gallery:
    spec = MultiTaskNetSpec()
    return Gallery(path, table_schema(width, spec.color_names, spec.type_names))


def row(id: str, number: int, **more: Any) -> dict[str, Any]:
    """A row as the table takes it, with an embedding of its number."""
    rng = np.random.default_rng(number)
    found = {
        "id": id,
        "image": f"/{number}.png",
        "camera": "",
        "track": "",
        "color": ("red", "blue")[number % 2],
        "keypoints": np.zeros(108, np.float16),
        "color_probabilities": np.zeros(10, np.float16),
        "type_probabilities": np.zeros(9, np.float16),
        "embedding": rng.normal(size=WIDTH),
        "sha256": rng.bytes(32),
    } | more
    return found | {"embedding": halves(found["embedding"])}


def fill(gallery: Gallery, numbers: Iterable[int], name: str = "{}") -> None:
    """Add :func:`row` for each number."""
    gallery.merge([row(name.format(one), one) for one in numbers], insert=True)


def full(*_: object, **__: object) -> None:
    """In place of what writes."""
    raise OSError("No space left on device")


def filled(*rows: dict[str, Any], path: Path | str = "memory://") -> Gallery:
    gallery = open_gallery(path)
    gallery.merge(rows, insert=True)
    return gallery


def column(gallery: Gallery, name: str) -> list[Any]:
    """Of all rows, by their ids."""
    rows = sorted(gallery.rows({"id", name}), key=lambda row: row["id"])
    return [row[name] for row in rows]


def draw(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Pictures of one colour each."""
    folder.mkdir(parents=True, exist_ok=True)
    colors = np.random.default_rng(seed).integers(0, 256, (count, 3), np.uint8)
    paths = [folder / f"{seed}-{number:04}.png" for number in range(count)]
    for path, color in zip(paths, colors, strict=True):
        Image.fromarray(np.full((4, 6, 3), color)).save(path)
    return paths


def use_in_commands(monkeypatch: pytest.MonkeyPatch, predictor: PixelPredictor) -> None:
    """Commands that work on galleries embed with this."""
    for module in ("gallery", "search"):
        name = f"multitasknet.cli.{module}.make_predictor"
        monkeypatch.setattr(name, lambda options: predictor)
