"""``adapt``: weights to a user's crops that have no labels, round by round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
import psutil
from mindspore import Tensor

from ..data.layouts import camera_in, read_dataset
from ..data.pipeline import create_pipeline, rows_of
from ..data.records import Record, Split, VehicleDataset, check_images, warn_about
from ..device import choose_device
from ..errors import MultiTaskNetError
from ..evaluation.run import evaluate_outputs
from ..files import file_sha256, make_folder
from ..hub.create_network import create_from
from ..hub.source import WeightsSource
from ..images import find_images
from ..inference.engine import Backend
from ..inference.kept_poses import complete_poses
from ..inference.opening import cpu_runtime
from ..inference.predictor import NAME, Predictor
from ..interruption import Interrupted
from ..models import find_network
from ..models.multitasknet.network import MultiTaskNet
from ..ranking.clustering import OUTLIER, Clustering, cluster
from ..retrieval.embedding import SplitEmbeddings, embed_split
from ..runtime import guard_cpu
from ..vehicle.attributes import ClassMaps
from ..weights.read import read_weights
from ..weights.sidecar import Sidecar, read_sidecar, write_sidecar
from .finetuning import FinetuneResult
from .history import EpochRecord, History, read_history, write_history
from .pseudo_identity import start_classifier
from .reporting import write_adaptation_report
from .run import BEST, HISTORY, Run
from .settings import AdaptSettings
from .state import Progress, save_network
from .statistics import reestimate_statistics
from .task import Job

FEWEST_CROPS = 64
# It knows the clusters of a round, and no vehicles: no file keeps it.
_CLASSIFIER = "classifier_vid."
# Of the batch norms' statistics: all of it loses, of weights that know such crops, what half gains.
_OF_CROPS = 0.5


class AdaptError(MultiTaskNetError, ValueError):
    """Crops that cannot be clustered, or a folder with another adaptation."""


def adapt(
    crops: str | Path,
    output: str | Path,
    *,
    data: str | Path | None = None,
    backend: Backend = "auto",
    device: str | None = None,
    workers: int = 1,
    progress: bool = True,
    on_round: Callable[[EpochRecord], None] = lambda record: None,
    cache_dir: str | Path | None = None,
    offline: bool = False,
    **settings: Any,
) -> FinetuneResult:
    """Adapt MultiTaskNet's weights to a folder of vehicle crops without labels.

    Round 0 moves the statistics of the batch norms half of the way to the crops'. Each round after
    it embeds the crops, clusters them, and trains on the clusters as if they were vehicles: the
    identity classifier is made anew and begins at their centroids, colour and type are taught the
    network's own answers. Sources: Li et al., 2016, and Schneider et al., NeurIPS 2020
    (:func:`.statistics.reestimate_statistics`); Ge et al., NeurIPS 2020, and Ester et al., KDD 1996
    (:func:`.ranking.clustering.cluster`); Zhong et al., CVPR 2017 (its distances).

    A call that is interrupted, or dies, loses the round in hand; the same call goes on behind the
    last one that was finished, and gives what one in a go gives. It may ask for more rounds.

    Args:
        crops: the folder. Cameras are read from names such as ``0002_c003_00030600.jpg``; poses are
            estimated, and kept there.
        output: for ``best.ckpt``, ``round-0.ckpt`` and so on, each with a sidecar and without
            identity classifier; ``history.json``, whose epochs are the rounds; ``report.html``.
        data: the root of a labelled data set, whose query and gallery measure every round.
        backend: what embeds, as in :class:`multitasknet.Predictor`; MindSpore trains.
        device, workers, progress: as in :func:`multitasknet.finetune`.
        on_round: called with each round's record. Its metrics are ``clusters``, ``eps``, ``used``
            (percent of the crops), ``outliers`` and ``one_camera`` (crops left out) and
            ``silhouette`` of what it trained on; and what was measured after it on ``data``.
        cache_dir, offline: as in :func:`multitasknet.create_network`.
        settings: fields of :class:`multitasknet.training.settings.AdaptSettings`: ``weights``,
            ``card``, ``pose``, ``rounds`` among them; ``size`` is by default the weights', and
            ``freeze="blocks"`` trains the last block and the heads, ``"backbone"`` the heads alone.

    Returns:
        The :class:`FinetuneResult`. Its epochs are the rounds, from 0; its checkpoint is the best
        by mAP on ``data``, without it the last.

    Raises:
        AdaptError: fewer than 64 crops, fewer clusters than a batch takes, or another adaptation
            lies in ``output``.
        FinetuneError: a setting is not allowed.
        Interrupted: SIGINT came; a KeyboardInterrupt.
        DataError, CheckpointError, DownloadError, TrainingError: from the crops, the weights and
            the training.
    """
    crops, output = Path(crops), Path(output)
    chosen = AdaptSettings.checked(settings, "settings")
    choose_device(device)
    split = _read_crops(crops)
    weights = None if chosen.weights == "none" else chosen.weights
    path = WeightsSource(weights, chosen.card, cache_dir, offline, progress).fetch(NAME)
    if path is not None and "size" not in settings:
        spec = read_weights(path, find_network(NAME)).spec
        chosen = replace(chosen, size=spec.input_size[0])
    facts = {
        "crops": str(crops),
        "images": len(split),
        "data": None if data is None else str(data),
        "weights_sha256": "" if path is None else file_sha256(path),
    }
    history = _history_in(output, chosen.as_json() | facts)
    if len(history.epochs) > chosen.rounds:
        return FinetuneResult(output, history, output / BEST, is_first=True)
    guard_cpu()
    mindspore.set_seed(chosen.seed)
    done = len(history.epochs)
    network = _open(_weights_of(output, done - 1) if done else path, chosen)
    dataset = VehicleDataset(crops) if data is None else read_dataset(data, ["query", "gallery"])
    warn_about(dataset)
    check_images(split.records)
    predictor = Predictor(
        network=network, pose=chosen.pose, cache_dir=cache_dir, offline=offline, progress=progress
    )
    complete = partial(complete_poses, predictor, progress=progress)
    adaptation = Adaptation(
        chosen,
        replace(
            dataset,
            train=complete(split, folder=crops),
            query=complete(dataset.query, folder=dataset.root),
            gallery=complete(dataset.gallery, folder=dataset.root),
        ),
        output,
        (backend == "auto" and cpu_runtime(device)) or backend,
        _class_maps(path, network),
        frozenset(name for name in network.parameters_dict() if not name.startswith(_CLASSIFIER)),
        history,
        workers,
        progress,
    )
    make_folder(output)
    try:
        while (number := len(adaptation.history.epochs)) <= chosen.rounds:
            on_round(adaptation.round(number) if number else adaptation.begin(network))
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"interrupted in round {number} of {chosen.rounds}; the rounds before it are kept in "
            f"{output}, and the same command goes on behind them"
        ) from error
    return FinetuneResult(output, adaptation.history, output / BEST, is_first=True)


def _read_crops(folder: Path) -> Split:
    images = find_images(folder)
    if len(images) < FEWEST_CROPS:
        raise AdaptError(
            f"{folder}: {len(images)} crops are too few to be clustered; give at least "
            f"{FEWEST_CROPS}, with several of each vehicle, better by more than one camera"
        )
    records = (
        Record(image, vehicle_id=0, camera_id=camera_in(image.name), origin=str(folder))
        for image in images
    )
    return Split("train", tuple(records))


def _history_in(output: Path, asked: Mapping[str, Any]) -> History:
    """The history of the adaptation that lies there, or a new one."""
    if not (output / HISTORY).exists():
        return History(asked)
    history = read_history(output / HISTORY)
    for name, value in asked.items():
        found = history.settings.get(name, "not known")
        if name != "rounds" and found != value:
            raise AdaptError(
                f"{output}: {name} is {value!r}, but in what lies there it is {found!r}; give "
                f"what was given then, or another folder"
            )
    return replace(history, settings=asked)


def _weights_of(output: Path, number: int) -> Path:
    return output / f"round-{number}.ckpt"


def _open(path: Path | None, settings: AdaptSettings) -> MultiTaskNet:
    """The network that a file holds, with what there is of classifiers."""
    complete = path is None or read_weights(path, find_network(NAME)).spec.include_top
    network = create_from(WeightsSource(path), variant=settings.variant, include_top=complete)
    network.spec = replace(network.spec, input_size=(settings.size, settings.size))
    return network


def _class_maps(path: Path | None, network: MultiTaskNet) -> ClassMaps:
    """Which colours and types the classes stand for: as the sidecar says, or as published."""
    spec = network.spec
    sidecar = None if path is None else read_sidecar(path, spec)
    if sidecar:
        return replace(sidecar.class_maps, vehicle_ids=())
    return ClassMaps((), *(tuple(range(1, n + 1)) for n in (spec.num_colors, spec.num_types)))


@dataclass(eq=False)
class Adaptation:
    """The rounds.

    Attributes:
        dataset: the crops as ``train``; ``query`` and ``gallery`` to measure on, or empty.
        class_maps: which colours and types the classes of the weights stand for.
        names: of the parameters that are kept, all but the identity classifier's.
        history: grows with every round.
    """

    settings: AdaptSettings
    dataset: VehicleDataset
    output: Path
    backend: Backend
    class_maps: ClassMaps
    names: frozenset[str]
    history: History
    workers: int
    show: bool

    def begin(self, network: MultiTaskNet) -> EpochRecord:
        """Measure the weights as they are, then move the batch norms' statistics to the crops'."""
        started = time.perf_counter()
        self.history = replace(self.history, before=self._measure(network))
        size, crops = self.settings.batch_size, self.dataset.train
        order = np.random.default_rng(self.settings.seed).permutation(len(crops))
        pipeline = create_pipeline(
            crops,
            network.spec,
            network.spec.input_size,
            batch_size=size,
            order=order.tolist(),
            workers=self.workers,
            drop_remainder=len(crops) >= size,
        )
        inputs = (tuple(map(Tensor, list(row.values())[:-1])) for row in rows_of(pipeline))
        reestimate_statistics(network, inputs, share=_OF_CROPS)
        record = EpochRecord(0, {}, 0.0, 0, 0.0, 0.0, psutil.Process().memory_info().rss / 2**20)
        return self._keep(record, network, {}, started)

    def round(self, number: int) -> EpochRecord:
        """Cluster the crops and train on the clusters.

        Raises:
            AdaptError: there are fewer clusters than a batch takes.
        """
        started, settings = time.perf_counter(), self.settings
        source = _weights_of(self.output, number - 1)
        (answers,) = self._embed(_open(source, settings), self.dataset.train)
        clustering = cluster(
            answers.embeddings,
            self.dataset.train.camera_ids,
            eps=settings.eps,
            min_images=settings.min_images,
            k1=settings.neighbors,
        )
        self._check(clustering, number)
        labelled = _labelled(self.dataset.train, clustering, answers)
        job = Job(
            replace(settings, epochs=settings.rounds * settings.epochs),
            VehicleDataset(self.dataset.root, labelled),
            self.output,
            WeightsSource(source),
            workers=self.workers,
            show=self.show,
        )
        run = Run.prepare(job, self.history)
        start_classifier(run.network, answers.embeddings, clustering.labels)
        for epoch in range((number - 1) * settings.epochs, number * settings.epochs):
            trained = run.train(Progress(epoch), lambda: False)
        run.network.set_train(False)
        found = {
            "clusters": clustering.count,
            "eps": clustering.eps,
            "used": 100 * len(labelled) / len(self.dataset.train),
            "outliers": clustering.outliers,
            "one_camera": clustering.one_camera,
            "silhouette": clustering.silhouette,
        }
        return self._keep(replace(run.record(trained), epoch=number), run.network, found, started)

    def _check(self, clustering: Clustering, number: int) -> None:
        needed = self.settings.batch_size // self.settings.instances
        if clustering.count < needed:
            raise AdaptError(
                f"round {number}: {clustering.count} clusters in {len(self.dataset.train)} crops, "
                f"of which {clustering.outliers} lie in none and {clustering.one_camera} in those "
                f"of one camera, but a batch takes {needed}; give more crops of each vehicle, a "
                f"smaller batch, or another number of neighbours. What was finished before "
                f"it is in {self.output}"
            )

    def _embed(self, network: MultiTaskNet, *splits: Split) -> list[SplitEmbeddings]:
        predictor = Predictor(
            network=network, batch_size=self.settings.batch_size, backend=self.backend, pose="none"
        )
        return [
            embed_split(predictor, split, workers=self.workers, progress=self.show)
            for split in splits
        ]

    def _measure(self, network: MultiTaskNet) -> dict[str, float]:
        """mAP, Rank-k, colour and type on query and gallery; empty without them."""
        query, gallery = self.dataset.query, self.dataset.gallery
        if not len(query):
            return {}
        outputs = self._embed(network, query, gallery)
        return evaluate_outputs(network.spec, self.dataset, *outputs).metrics

    def _keep(
        self, record: EpochRecord, network: MultiTaskNet, found: Mapping[str, float], started: float
    ) -> EpochRecord:
        """Measure and write down a finished round; the history, which says so, last of all."""
        measured = self._measure(network)
        seconds = time.perf_counter() - started
        record = replace(record, seconds=seconds, metrics={**found, **measured})
        history = replace(self.history, epochs=(*self.history.epochs, record))
        origin = {
            "adapted_from": history.settings["weights_sha256"],
            "crops": history.settings["images"],
            "round": record.epoch,
            "settings": history.settings,
            "versions": {"mindspore": mindspore.__version__, "numpy": np.__version__},
        }
        sidecar = Sidecar(network.spec, self.class_maps, measured, origin)
        paths = [_weights_of(self.output, record.epoch)]
        if history.best is record:
            paths.append(self.output / BEST)
        for path in paths:
            write_sidecar(path, sidecar)
            save_network(path, network, self.names)
        write_adaptation_report(self.output / "report.html", history)
        write_history(self.output / HISTORY, history)
        self.history = history
        return record


def _labelled(crops: Split, clustering: Clustering, answers: SplitEmbeddings) -> Split:
    """The clustered crops, with cluster, colour and type as class indices."""
    columns = (clustering.labels, answers.colors, answers.types)
    rows = zip(crops.records, *(column.tolist() for column in columns), strict=True)
    records = (
        replace(record, vehicle_id=label, color_id=color, type_id=kind)
        for record, label, color, kind in rows
        if label != OUTLIER
    )
    return replace(crops, records=tuple(records))
