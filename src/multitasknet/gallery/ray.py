"""Pictures embedded by many machines: this process reads and commits, Ray's actors embed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import GalleryError, import_extra
from ..files import reading
from ..inference.origin import EmbeddingOrigin
from .adding import Embed, Loaded, Skip, chunks, source_of

if TYPE_CHECKING:
    from ..inference.predictor import Prediction

LOCAL = "local"
# Pictures that an actor gets at once.
_TASK = 64

_Done = tuple[list["Prediction"], dict[str, Any]]


@contextmanager
def embed_with_ray(
    settings: Mapping[str, Any],
    origin: EmbeddingOrigin,
    *,
    address: str = LOCAL,
    actors: int = 1,
) -> Iterator[Embed]:
    """What embeds on Ray, for :meth:`.Gallery.add`; only this process reads pictures.

    Args:
        settings: arguments of :class:`multitasknet.Predictor`, with which each actor makes its own.
        origin: of what they must give.
        address: of a running cluster; ``local`` starts one on this machine.
        actors: how many embed.

    Raises:
        GalleryError: there is no such cluster, it failed, or an actor has other weights.
        MissingExtraError: Ray is not installed.
    """
    ray = import_extra("ray", "ray")
    problem, remedy = "the Ray job cannot go on", "look at its log; the same command goes on"
    with reading(f"Ray at {address}", GalleryError, problem, remedy):
        ray.init(address, log_to_driver=False)
        try:
            made = [ray.remote(_Embedder).remote(dict(settings)) for _ in range(actors)]
            check_same_origin(ray.get([one.origin.remote() for one in made]), origin)
            yield partial(_embed, ray, made)
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


def _embed(
    ray: Any, actors: Sequence[Any], loaded: Iterator[Loaded], skip: Skip
) -> Iterator[tuple[Loaded, Prediction]]:
    idle, running = list(actors), dict[Any, tuple[Any, list[Loaded]]]()
    for task in chunks(loaded, _TASK):
        if not idle:
            yield from _finish(ray, idle, running, skip)
        actor = idle.pop()
        running[actor.embed.remote(list(map(source_of, task)))] = actor, task
    while running:
        yield from _finish(ray, idle, running, skip)


def _finish(
    ray: Any, idle: list[Any], running: dict[Any, tuple[Any, list[Loaded]]], skip: Skip
) -> Iterator[tuple[Loaded, Prediction]]:
    """What the first actor to finish has made."""
    (done,), _ = ray.wait(list(running), num_returns=1)
    actor, task = running.pop(done)
    idle.append(actor)
    predictions, broken = ray.get(done)
    for name, error in broken.items():
        skip(name, error)
    yield from ((task[one.index], one) for one in predictions)


class _Embedder:
    """An actor: a network of its own."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        from ..inference.predictor import Predictor

        self._predictor = Predictor(**settings)

    def origin(self) -> EmbeddingOrigin:
        return self._predictor.origin

    def embed(self, sources: Sequence[Any]) -> _Done:
        broken: dict[str, Any] = {}
        predictions = list(self._predictor.stream(sources, skip=broken.__setitem__))
        return predictions, broken
