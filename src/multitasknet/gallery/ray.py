"""Pictures embedded by many machines: this process reads and commits, Ray's actors embed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from ..errors import GalleryError, ImageError, import_extra
from ..files import reading
from ..inference.prediction import EmbeddingOrigin
from .adding import chunks

if TYPE_CHECKING:
    from ..inference.predictor import Prediction

LOCAL = "local"
# Pictures that an actor gets at once.
_TASK = 64


@dataclass(frozen=True)
class RayEmbedder:
    """Embeds on Ray, for :meth:`.Gallery.add`."""

    origin: EmbeddingOrigin
    actors: Sequence[Any]

    def stream(
        self, images: Iterable[Any], *, skip: Callable[[str, ImageError], object]
    ) -> Iterator[Prediction]:
        """Predictions as they come, each with its image's place in ``index``."""
        from ray.util import ActorPool

        pool, first = ActorPool(self.actors), 0

        def finished() -> Iterator[Prediction]:
            predictions, broken = pool.get_next_unordered()
            for name, error in broken.items():
                skip(name, error)
            yield from predictions

        for task in chunks(images, _TASK):
            if not pool.has_free():
                yield from finished()
            pool.submit(lambda actor, asked: actor.embed.remote(*asked), (first, task))
            first += len(task)
        while pool.has_next():
            yield from finished()


@contextmanager
def ray_embedder(
    settings: Mapping[str, Any],
    origin: EmbeddingOrigin,
    *,
    address: str = LOCAL,
    actors: int | None = None,
) -> Iterator[RayEmbedder]:
    """Networks on a Ray cluster; only this process reads pictures.

    Args:
        settings: arguments of :class:`multitasknet.Predictor`, with which each actor makes its own.
        origin: of what they must give.
        address: of a running cluster; ``local`` starts one on this machine.
        actors: how many embed; default is one for each machine.

    Raises:
        GalleryError: there is no such cluster, it failed, or an actor has other weights.
        MissingExtraError: Ray is not installed.
    """
    ray = import_extra("ray", "ray")
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as OnNode

    problem, remedy = "the Ray job cannot go on", "look at its log; the same command goes on"
    with reading(f"Ray at {address}", GalleryError, problem, remedy):
        ray.init(address, log_to_driver=False)
        try:
            actor = ray.remote(_Actor)
            places = [OnNode(one["NodeID"], soft=False) for one in ray.nodes() if one["Alive"]]
            made = [
                actor.options(scheduling_strategy=place).remote(dict(settings))
                for place in islice(cycle(places), actors or len(places))
            ]
            check_same_origin(ray.get([one.origin.remote() for one in made]), origin)
            yield RayEmbedder(origin, made)
        finally:
            ray.shutdown()


def check_same_origin(found: Sequence[EmbeddingOrigin], origin: EmbeddingOrigin) -> None:
    """GalleryError if an actor's embeddings could not be compared with this process's."""
    for one in found:
        if one != origin:
            raise GalleryError(
                f"a Ray actor has another network ({one.differences(origin)}); put the same "
                f"weights at that path on all machines"
            )


class _Actor:
    """A network of its own."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        from ..inference.predictor import Predictor

        self._predictor = Predictor(**settings)

    def origin(self) -> EmbeddingOrigin:
        return self._predictor.origin

    def embed(self, first: int, images: Sequence[Any]) -> tuple[list[Prediction], dict[str, Any]]:
        """Predictions, whose places begin at the first one's, and what cannot be read."""
        broken: dict[str, Any] = {}
        found = self._predictor.stream(images, skip=broken.__setitem__)
        return [replace(one, index=first + one.index) for one in found], broken
