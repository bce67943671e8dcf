"""A network that is ready for pictures: what every one of them needs, whatever it says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice, repeat
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ..data.records import Record
from ..errors import ImageError
from ..hub.source import WeightsSource
from ..images import ImageInput, Picture, open_picture
from ..models.base import check_memory, check_size
from ..runtime import usable_cores
from ..vehicle.pose import Pose
from .engine import Backend, Hint, Precision
from .opening import open_engine

T = TypeVar("T")
Source: TypeAlias = "ImageInput | Picture | Record"
Skip: TypeAlias = Callable[[str, ImageError], object]
_END: Any = object()
_BATCH, _A_THREAD = 8, 4  # pictures


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture that was read, and its pose.

    Attributes:
        index: its place among the images that were given.
        picture: its bytes.
        pixels: uint8 ``[H, W, 3]``, both sides divided by ``divisor``.
        pose: in pixels of the whole picture.
        record: what else is known of it.
    """

    index: int
    picture: Picture
    pixels: np.ndarray
    divisor: int
    pose: Pose
    record: Record | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the whole picture."""
        return self.picture.shape if self.divisor > 1 else self.pixels.shape[:2]  # type: ignore[return-value]

    @property
    def reduced_pose(self) -> Pose:
        """In pixels of ``pixels``."""
        return self.pose.scaled(1 / self.divisor)


class Runner:
    """An engine, and pictures read for it ahead of time; see the classes that build on it.

    Attributes:
        engine: what runs the network; ``engine.source`` says where its weights are from.
        spec: the network's architecture.
        batch_size: pictures per call of the network.
        size: height and width of its input.
    """

    def __init__(
        self,
        name: str | Sequence[str],
        source: WeightsSource,
        *,
        network: Any,
        batch_size: int | None,
        size: tuple[int, int] | None,
        backend: Backend,
        threads: int | None,
        device: str | None,
        fp16: bool,
        precision: Precision | None,
        hint: Hint,
        **options: Any,
    ) -> None:
        if batch_size is None:
            batch_size = default_batch_size(hint, threads or usable_cores())
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}; expected an integer of at least 1")
        self.engine = open_engine(
            source,
            name,
            backend=backend,
            network=network,
            threads=threads,
            device=device,
            batch=batch_size,
            fp16=fp16,
            precision=precision,
            hint=hint,
            **options,
        )
        self.batch_size = batch_size
        self.spec = self.engine.spec
        self.size = check_size(size or self.spec.input_size)
        check_memory(self.spec, self.size, batch_size)

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Call the network on one batch of inputs, to the outputs that ``spec`` names."""
        return self.engine.run(*inputs)

    def read(
        self,
        images: Iterable[Source],
        keypoints: Iterable[np.ndarray | None] | None = None,
        *,
        skip: Skip | None = None,
        size: tuple[int, int] | None = None,
    ) -> Iterator[list[Shot]]:
        """Open and decode pictures, a batch at a time, in threads and ahead of their use.

        Args:
            images, keypoints, skip: as in :meth:`multitasknet.Predictor.stream`.
            size: what large pictures may be reduced for; None leaves them as they are.
        """
        if isinstance(images, str | Path) or not isinstance(images, Iterable):
            raise TypeError(f"images must be a list of images, not {type(images).__name__}")
        poses = repeat(None) if keypoints is None else keypoints
        rows = zip(count(), images, poses, strict=False)
        return ahead(self._read(rows, partial(_read, size=size, skips=skip is not None), skip))

    def _read(
        self,
        rows: Iterator[Any],
        read: Callable[[Any], Shot | tuple[str, ImageError]],
        skip: Skip | None,
    ) -> Iterator[list[Shot]]:
        with ThreadPoolExecutor(usable_cores()) as pool:
            while batch := list(islice(rows, self.batch_size)):
                shots = []
                for one in pool.map(read, batch):
                    if isinstance(one, Shot):
                        shots.append(one)
                    elif skip is not None:
                        skip(*one)
                if shots:
                    yield shots

    def read_ahead(self, images: Sequence[ImageInput]) -> Iterator[list[np.ndarray]]:
        """The pictures, uint8 ``[H, W, 3]`` each, a batch at a time; ImageError."""
        for batch in self.read(images):
            yield [shot.pixels for shot in batch]


def _read(
    row: tuple[int, Source, np.ndarray | None], *, size: tuple[int, int] | None, skips: bool
) -> Shot | tuple[str, ImageError]:
    index, image, keypoints = row
    record = image if isinstance(image, Record) else None
    source: Any = record.image if record else image
    named = source.name if isinstance(source, Picture) else str(source)
    name = named if isinstance(source, str | Path | Picture) else f"image {index}"
    pose = Pose.of(record.keypoints if record and keypoints is None else keypoints)
    if record and record.estimated and keypoints is None:
        pose = replace(pose, origin="estimated")
    try:
        picture = source if isinstance(source, Picture) else open_picture(source, name=name)
        pixels, divisor = picture.decode(size)
        return Shot(index, picture, pixels, divisor, pose, record)
    except ImageError as error:
        if not skips:
            raise
        return name, error


def default_batch_size(hint: Hint, threads: int) -> int:
    """How many pictures a call takes where nobody says.

    All cores at one batch are as fast with one picture as with thirty-two, and eight keep reading
    and drawing ahead of them. Pictures shared out among the cores want several for each: with one
    for two cores there are 0.5 times the images/s of eight (``benchmarks/serving.md``).
    """
    return max(_BATCH, _A_THREAD * threads) if hint == "throughput" else _BATCH


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made by a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, _END)
        while (item := following.result()) is not _END:
            following = thread.submit(next, items, _END)
            yield item


def check_images(images: Sequence[Source]) -> None:
    """TypeError unless it is a list of images."""
    if isinstance(images, str | Path) or not isinstance(images, Sequence):
        raise TypeError(f"images must be a list of images, not {type(images).__name__}")
