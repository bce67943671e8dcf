"""What Predictor and PoseEstimator have in common: an engine, and pictures read for it ahead."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ..data.records import Record
from ..errors import EngineError, ImageError
from ..files import expand
from ..hub.card import ENTRIES, ModelCard
from ..hub.fetch import default_cache_dir
from ..hub.source import DEFAULT, WeightsSource, default_weights
from ..images import ImageInput, Picture, open_picture
from ..models.base import check_memory, check_size
from ..runtime import usable_cores
from ..vehicle.pose import Pose
from ..weights.read import check_network
from .engines import Aim, Backend, Engine, Precision, open_engine

T = TypeVar("T")
Source: TypeAlias = "ImageInput | Picture | Record"
Skip: TypeAlias = Callable[[str, ImageError], object]
_END: Any = object()
_BATCH, _A_THREAD = 8, 4  # pictures


@dataclass(frozen=True, eq=False)
class PosedImage:
    """A picture that was read, and its pose.

    Attributes:
        index: its place among the images that were given.
        picture: its bytes.
        pixels: uint8 ``[H, W, 3]``, both sides divided by ``divisor``.
        divisor: 1, 2, 4 or 8.
        pose: in pixels of the whole picture.
        reduced: the same in pixels of ``pixels``.
        record: what else is known of it.
    """

    index: int
    picture: Picture
    pixels: np.ndarray
    divisor: int
    pose: Pose
    reduced: Pose
    record: Record | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the whole picture."""
        if self.divisor > 1:
            return self.picture.shape
        return self.pixels.shape[0], self.pixels.shape[1]

    def with_pose(self, reduced: Pose) -> PosedImage:
        """The picture with a pose in pixels of ``pixels``."""
        return replace(self, reduced=reduced, pose=reduced.scaled(self.divisor))


class Runner:
    """An engine, and pictures read for it ahead of time.

    Attributes:
        engine: what runs the network; ``engine.source`` names its weights.
        spec: the network's architecture.
        batch_size: pictures per call of the network.
        size: height and width of its input.
        weights_file: the file of the weights; None where they are in memory or random.
        weights_are_own: whether that is a file of the user, not one of a card.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        weights: str | Path | None = DEFAULT,
        network: Any = None,
        card: str | Path | ModelCard | None = None,
        variant: str | None = None,
        cache_dir: str | Path | None = None,
        offline: bool = False,
        progress: bool = True,
        batch_size: int | None = None,
        size: int | tuple[int, int] | None = None,
        backend: Backend = "auto",
        threads: int | None = None,
        device: str | None = None,
        precision: Precision | None = None,
        optimize_for: Aim = "latency",
    ) -> None:
        if batch_size is None:
            batch_size = default_batch_size(optimize_for, threads or usable_cores())
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}; expected an integer of at least 1")
        if weights == DEFAULT:
            weights = default_weights(names, card)
        source = WeightsSource(weights, card, cache_dir, offline, progress)
        model, self.weights_file = _model(source, names, network, variant)
        self.weights_are_own = self.weights_file is not None and weights not in ENTRIES
        self.engine: Engine = open_engine(
            model,
            backend=backend,
            precision=precision,
            threads=threads,
            optimize_for=optimize_for,
            device=device,
            batch_size=batch_size,
            folder=default_cache_dir() if cache_dir is None else expand(cache_dir),
        )
        self.spec = self.engine.spec
        check_network(self.spec.network, names, self.engine.source or "the network")
        _check_variant(variant, self.engine)
        self.batch_size = batch_size
        self.size = check_size(size or self.spec.input_size)
        check_memory(self.spec, self.size, batch_size)

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Call the network on one batch of inputs, to the outputs that ``spec`` names."""
        return self.engine.run(*inputs)

    def read(
        self,
        pool: Executor,
        images: Iterable[Source],
        keypoints: Iterable[np.ndarray | None] | None = None,
        skip: Skip | None = None,
    ) -> Generator[list[PosedImage], None, None]:
        """Open and decode pictures, a batch at a time; in a pool's threads, ahead of their use.

        Arguments as in :meth:`multitasknet.Predictor.stream`.
        """
        if isinstance(images, str | Path) or not isinstance(images, Iterable):
            raise TypeError(f"images must be a list of images, not {type(images).__name__}")
        if keypoints is None:
            pairs: Iterator[Any] = zip(images, repeat(None), strict=False)
        else:
            pairs = zip(images, keypoints, strict=True)
        return ahead(self._read(pool, enumerate(pairs), skip))

    def _read(
        self, pool: Executor, rows: Iterator[Any], skip: Skip | None
    ) -> Iterator[list[PosedImage]]:
        read = partial(_posed_image, size=self.size, raises=skip is None)
        while batch := list(islice(rows, self.batch_size)):
            found = []
            for one in pool.map(read, batch):
                if isinstance(one, PosedImage):
                    found.append(one)
                elif skip:
                    skip(*one)
            if found:
                yield found


def default_batch_size(optimize_for: Aim, threads: int) -> int:
    """How many pictures a call takes by default.

    All cores at one batch are as fast with one picture as with thirty-two, and eight keep reading
    and drawing ahead of them. Pictures shared out among the cores want several for each: with one
    for two cores there are 0.5 times the images/s of eight (``benchmarks/serving.md``).
    """
    return max(_BATCH, _A_THREAD * threads) if optimize_for == "throughput" else _BATCH


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The items, each made by a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, _END)
        while (item := following.result()) is not _END:
            following = thread.submit(next, items, _END)
            yield item


def check_poses(
    images: Sequence[Source], keypoints: Sequence[np.ndarray | None] | None
) -> Sequence[np.ndarray | None] | None:
    """The keypoints; TypeError or ValueError unless it is a list of images, and as many poses."""
    if isinstance(images, str | Path) or not isinstance(images, Sequence):
        raise TypeError(f"images must be a list of images, not {type(images).__name__}")
    if keypoints is not None and len(keypoints) != len(images):
        raise ValueError(
            f"{len(keypoints)} keypoints for {len(images)} images; expected one entry an image, "
            f"None where there is no pose"
        )
    return keypoints


def _posed_image(
    row: tuple[int, tuple[Source, np.ndarray | None]], *, size: tuple[int, int], raises: bool
) -> PosedImage | tuple[str, ImageError]:
    """A picture that was read; its name and what kept it from being read, unless that raises."""
    index, (image, keypoints) = row
    record = image if isinstance(image, Record) else None
    source: Any = record.image if record else image
    name = str(source) if isinstance(source, str | Path) else f"image {index}"
    pose = Pose.of(record.keypoints if record and keypoints is None else keypoints)
    if record and record.estimated and keypoints is None:
        pose = replace(pose, origin="estimated")
    try:
        picture = source if isinstance(source, Picture) else open_picture(source, name=name)
        pixels, divisor = picture.decode(size)
    except ImageError as error:
        if raises:
            raise
        return (source.name if isinstance(source, Picture) else name), error
    return PosedImage(index, picture, pixels, divisor, pose, pose.scaled(1 / divisor), record)


def _model(
    source: WeightsSource, names: Sequence[str], network: Any, variant: str | None
) -> tuple[Any, Path | None]:
    """What :func:`.open_engine` is to open, and the file that it is in."""
    if network is not None:
        from ..weights.load import inner_network

        return inner_network(network), None
    if source.weights is None:
        from ..hub.create_network import create_network

        options = {} if variant is None else {"variant": variant}
        return create_network(names[0], weights=None, **options), None
    if source.suffix == ".onnx":
        path = expand(str(source.weights))
        return path, path
    if source.suffix == ".mindir":
        raise EngineError(
            f"{source.weights}: MindIR files are for MindSpore Lite and other runtimes; give the "
            f"weights, or an .onnx file"
        )
    file = source.file(*names)
    assert file is not None
    return file, file.path


def _check_variant(variant: str | None, engine: Engine) -> None:
    found = getattr(engine.spec, "variant", None)
    if variant is not None and str(variant) != str(found):
        raise EngineError(
            f"variant is {str(variant)!r}, but {engine.source} holds the variant {str(found)!r}; "
            f"leave variant out, or give weights of that variant"
        )
