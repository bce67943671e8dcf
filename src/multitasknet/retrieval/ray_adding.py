"""Pictures into a store by many machines: Ray Data's actors embed, this process commits.

The store itself is what a job goes on from: rows that it holds are not embedded again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from ..data.labels import LabelRow, Labels
from ..errors import MultiTaskNetError, import_extra
from ..files import reading
from .adding import AddReport, Entry, Loaded, chunks, is_text, load, note, pictures_of
from .embedding import origin_of
from .store import BATCH, GalleryStore

if TYPE_CHECKING:
    from ..inference.predictor import Predictor

LOCAL = "local"
# Pictures that an actor gets at once.
_TASK = 256


class RayError(MultiTaskNetError, RuntimeError):
    """A Ray cluster that cannot be reached, or failed; says what to do."""


def add_with_ray(
    store: GalleryStore,
    predictor: Predictor,
    settings: Mapping[str, Any],
    entries: Sequence[Entry],
    *,
    address: str = LOCAL,
    actors: int = 1,
    labels: Mapping[str, LabelRow] | None = None,
    reembed: bool = False,
    progress: bool = True,
) -> AddReport:
    """:func:`.adding.add_pictures` on Ray; every machine must see the pictures' paths.

    Args:
        predictor: what the rows are to be made by.
        settings: arguments of :class:`multitasknet.Predictor` that make the same one.
        address: of a running cluster; ``local`` starts one of this machine.
        actors: how many embed, each with a network of its own.

    Raises:
        RayError: there is no such cluster, or it failed.
        StoreError, OutputError: as :func:`.adding.add_pictures`.
        MissingExtraError: Ray is not installed.
    """
    ray, data = import_extra("ray", "ray"), import_extra("ray.data", "ray")
    origin = origin_of(predictor)
    if not reembed:
        store.check_origin(origin)
    how = {"compute": data.ActorPoolStrategy(size=actors), "batch_size": _TASK}
    report = AddReport()
    hidden = None if progress else True
    problem, remedy = "the Ray job cannot go on", "look at its log; the same command goes on"
    with (
        reading(f"Ray at {address}", RayError, problem, remedy),
        _cluster(ray, address),
        tqdm(desc="add", total=len(entries), unit="image", disable=hidden) as bar,
    ):
        data.DataContext.get_current().enable_progress_bars = False
        # Cut here: a repartition is tasks of Ray's, which wait for the cores that actors hold.
        blocks = max(-(-len(entries) // _TASK), 1)
        made = list(_tasks(store, entries, Labels(labels or {})))
        tasks = data.from_items(made, override_num_blocks=blocks)
        done = tasks.map_batches(_Embedder, fn_constructor_args=(dict(settings),), **how)
        for chunk in chunks(done.iter_rows(), BATCH):
            told = [row["done"] for row in chunk]
            rows = [(loaded.row, one) for loaded, one in told if one is not None]
            store.commit(rows, origin, reembed=reembed)
            report.added += len(rows)
            for loaded, one in told:
                if one is None:
                    note(report, loaded)
            bar.update(len(chunk))
    return report


@contextmanager
def _cluster(ray: Any, address: str) -> Iterator[None]:
    """Be connected to a cluster."""
    ray.init(address, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


class _Embedder:
    """An actor: a network, and the pictures that it is given."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        from ..inference.predictor import Predictor

        self._predictor = Predictor(**settings)
        self._origin = origin_of(self._predictor)

    def __call__(self, tasks: Mapping[str, Any]) -> dict[str, np.ndarray]:
        loaded = [
            load(entry, known, keypoints, self._origin) for entry, known, keypoints in tasks["task"]
        ]
        fresh = [one for one in loaded if one.row is not None]
        batches = map(pictures_of, chunks(fresh, self._predictor.batch_size))
        predictions = iter(
            [one for batch in self._predictor.predict_pictures(batches) for one in batch]
        )
        done = np.empty(len(loaded), dtype=object)
        for place, one in enumerate(loaded):
            told = Loaded(one.entry, one.row, problem=one.problem)
            done[place] = told, None if one.row is None else next(predictions)
        return {"done": done}


def _tasks(
    store: GalleryStore, entries: Sequence[Entry], labels: Labels
) -> Iterator[dict[str, Any]]:
    """What :func:`.adding.load` takes of each picture."""
    for chunk in chunks(entries, BATCH):
        known = store.known([one.id for one in chunk if is_text(one.id)])
        for entry in chunk:
            label = labels.find(entry.image)
            keypoints = None if label is None else label.keypoints
            yield {"task": (entry, known.get(entry.id), keypoints)}
