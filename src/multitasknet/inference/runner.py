"""What Predictor and PoseEstimator have in common: an engine, and pictures read for it ahead."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, TypeVar

import numpy as np

from ..data.records import Record
from ..data.samples import batch_inputs, load_maps, make_sample
from ..errors import ImageError
from ..files import expand
from ..hub.card import ENTRIES, ModelCard
from ..hub.source import WeightsSource
from ..images import ImageInput, Picture, open_picture
from ..models.base import check_memory, check_size
from ..runtime import usable_cores
from ..vehicle.pose import Pose
from ..vehicle.quality import Quality, find_quality
from ..vehicle.sample import Sample
from ..weights.read import WeightsFile, check_network
from .engines import Aim, Backend, EngineOptions, Precision, open_engine

if TYPE_CHECKING:
    from mindspore import nn

T = TypeVar("T")
Source: TypeAlias = "ImageInput | Picture | Record"
Skip: TypeAlias = Callable[[str, ImageError], object]
Batch: TypeAlias = "tuple[tuple[np.ndarray, ...], list[PosedImage]]"
_END: Any = object()
_BATCH, _A_THREAD = 8, 4  # pictures


class RunnerOptions(TypedDict, total=False):
    """What both take by keyword; :class:`multitasknet.Predictor` says what each option means."""

    network: nn.Cell | None
    card: str | Path | ModelCard | None
    cache_dir: str | Path | None
    offline: bool
    progress: bool
    batch_size: int | None
    size: int | tuple[int, int] | None
    backend: Backend
    threads: int | None
    device: str | None
    precision: Precision | None
    optimize_for: Aim


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

    @property
    def quality(self) -> Quality:
        """Whether it shows one whole vehicle; by its pixels alone, unless the pose network that
        estimated the pose has a quality head."""
        return find_quality(self.pixels, self.pose.contents)

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
        weights: str | Path | None,
        *,
        network: Any = None,
        card: str | Path | ModelCard | None = None,
        cache_dir: str | Path | None = None,
        offline: bool = False,
        progress: bool = True,
        size: int | tuple[int, int] | None = None,
        **how: Any,
    ) -> None:
        options = EngineOptions(**how)
        # All cores at one batch are as fast with one picture as with 32. Pictures shared out among
        # the cores want several for each (benchmarks/serving.md).
        shared = options.optimize_for == "throughput"
        most = _A_THREAD * (options.threads or usable_cores()) if shared else 0
        self.batch_size = options.batch_size or max(_BATCH, most)
        source = WeightsSource(weights, card, cache_dir, offline, progress).resolved(*names)
        model = _model(source, names, network)
        file: Path | None = model.path if isinstance(model, WeightsFile) else None
        self.weights_file = model if isinstance(model, Path) else file
        self.weights_are_own = self.weights_file is not None and source.weights not in ENTRIES
        self.engine = open_engine(model, replace(options, batch_size=self.batch_size), cache_dir)
        self.spec = self.engine.spec
        check_network(self.spec.network, names, self.engine.source or "the network")
        self.size = check_size(size or self.spec.input_size)
        if size or options.batch_size:
            check_memory(self.spec, self.size, self.batch_size)

    def batches(
        self,
        images: Iterable[Source],
        keypoints: Iterable[np.ndarray | None] | None = None,
        skip: Skip | None = None,
    ) -> Iterator[Batch]:
        """The network's inputs, as ``engine.run`` takes them, and the pictures that they show.

        Threads read, pose and draw the next ones meanwhile. Arguments as in
        :meth:`multitasknet.Predictor.stream`.
        """
        with (
            ThreadPoolExecutor(usable_cores()) as pool,
            closing(ahead(self._drawn(pool, images, keypoints, skip))) as batches,
        ):
            yield from batches

    def inputs(
        self, images: Iterable[Source], keypoints: Iterable[np.ndarray | None] | None = None
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """The inputs of :meth:`batches` alone."""
        return (inputs for inputs, _ in self.batches(images, keypoints))

    def _drawn(
        self,
        pool: Executor,
        images: Iterable[Source],
        keypoints: Iterable[np.ndarray | None] | None,
        skip: Skip | None,
    ) -> Iterator[Batch]:
        for shots in ahead(self._read(pool, images, keypoints, skip)):
            posed = self._posed(shots)
            samples = list(pool.map(self._sample, posed))
            yield batch_inputs(samples, self.spec, self.size), posed

    def _posed(self, shots: list[PosedImage]) -> list[PosedImage]:
        """The pictures with the poses that they are drawn with."""
        return shots

    def _sample(self, shot: PosedImage) -> Sample:
        """With the maps that a record has stored, where it has some."""
        record = shot.record
        if record is None or not (record.heatmaps or record.segments):
            return make_sample(shot.pixels, shot.reduced.keypoints, self.spec)
        known = None if shot.pose.origin == "neutral" else shot.pose.keypoints
        record = replace(record, keypoints=known)
        maps = load_maps(record, shot.shape, self.spec.variant)
        return Sample(shot.pixels, shot.reduced.keypoints, maps)

    def _read(
        self,
        pool: Executor,
        images: Iterable[Source],
        keypoints: Iterable[np.ndarray | None] | None,
        skip: Skip | None,
    ) -> Iterator[list[PosedImage]]:
        """Open and decode pictures in a pool's threads, a batch at a time."""
        if isinstance(images, str | Path) or not isinstance(images, Iterable):
            raise TypeError(f"images must be a list of images, not {type(images).__name__}")
        poses = repeat(None) if keypoints is None else keypoints
        rows = enumerate(zip(images, poses, strict=keypoints is not None))
        while batch := list(islice(rows, self.batch_size)):
            shots = []
            for one in pool.map(partial(_posed_image, size=self.size), batch):
                if isinstance(one, PosedImage):
                    shots.append(one)
                elif skip is None:
                    raise one[1]
                else:
                    skip(*one)
            if shots:
                yield shots


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The items, each made by a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, _END)
        while (item := following.result()) is not _END:
            following = thread.submit(next, items, _END)
            yield item


def _posed_image(
    row: tuple[int, tuple[Source, np.ndarray | None]], *, size: tuple[int, int]
) -> PosedImage | tuple[str, ImageError]:
    """A picture that was read; or its name and what kept it from being read."""
    index, (image, keypoints) = row
    record = image if isinstance(image, Record) else None
    source: Any = record.image if record else image
    name = str(source) if isinstance(source, str | Path) else f"image {index}"
    name = source.name if isinstance(source, Picture) else name
    pose = Pose.of(record.keypoints if record and keypoints is None else keypoints)
    if record and record.estimated and keypoints is None:
        pose = replace(pose, origin="estimated")
    try:
        picture = source if isinstance(source, Picture) else open_picture(source, name=name)
        pixels, divisor = picture.decode(size)
    except ImageError as error:
        return name, error
    return PosedImage(index, picture, pixels, divisor, pose, pose.scaled(1 / divisor), record)


def _model(source: WeightsSource, names: Sequence[str], network: Any) -> Any:
    """What :func:`.open_engine` is to open: a Cell, a WeightsFile or the path of an ONNX file."""
    if network is not None:
        from ..weights.load import inner_network

        return inner_network(network)
    if source.weights is None:
        from ..hub.create_network import create_network

        return create_network(names[0], weights=None)
    if str(source.weights).endswith(".onnx"):
        return expand(source.weights)
    return source.file(*names)
