"""A network that is ready for pictures: what every one of them needs, whatever it says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..hub.source import WeightsSource
from ..images import ImageInput, read_image, read_reduced
from ..models.base import check_memory, check_size
from ..runtime import usable_cores
from .engine import Backend, Hint, Precision
from .opening import open_engine

T = TypeVar("T")
_END: Any = object()
_BATCH, _A_THREAD = 8, 4  # pictures


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

    def read_ahead(self, images: Sequence[ImageInput]) -> Iterator[list[np.ndarray]]:
        """The pictures, uint8 ``[H, W, 3]`` each, a batch at a time; ImageError."""
        return ahead(self._read(images, read_image))

    def read_reduced(
        self, images: Sequence[ImageInput]
    ) -> Iterator[tuple[tuple[np.ndarray, ...], tuple[int, ...]]]:
        """:meth:`read_ahead` of pictures that may be reduced, and by how much each one is."""
        read = partial(read_reduced, size=self.size)
        for batch in ahead(self._read(images, read)):
            pixels, divisors = zip(*batch, strict=True)
            yield pixels, divisors

    def _read(
        self, images: Sequence[ImageInput], read: Callable[[ImageInput], T]
    ) -> Iterator[list[T]]:
        with ThreadPoolExecutor(usable_cores()) as pool:
            for start in range(0, len(images), self.batch_size):
                yield list(pool.map(read, images[start : start + self.batch_size]))


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


def check_images(images: Sequence[ImageInput]) -> None:
    """TypeError unless it is a list of images."""
    if isinstance(images, str | Path) or not isinstance(images, Sequence):
        raise TypeError(f"images must be a list of images, not {type(images).__name__}")
