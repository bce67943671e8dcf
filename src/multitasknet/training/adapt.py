"""``adapt``: weights to a user's crops that have no labels, round by round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import mindspore
import numpy as np
from mindspore import Tensor

from ..data.layouts import camera_in, read_dataset
from ..data.records import Record, Split, VehicleDataset, check_files, warn_about
from ..device import choose_device
from ..errors import TrainingError, import_extra
from ..evaluation.embedding import Embeddings, embed_records
from ..evaluation.run import evaluate_outputs
from ..files import exclusive, make_folder
from ..images import find_images
from ..inference.engines import Backend, fastest_backend
from ..inference.predictor import Predictor
from ..models import EMBEDDING_NETWORKS, find_network
from ..models.embedding import EmbeddingNetwork
from ..ranking.clustering import OUTLIER, Clustering, centroids, cluster
from ..runtime import guard_cpu
from ..vehicle.attributes import ClassMaps
from ..weights.load import save_weights
from ..weights.read import Weights, read_weights
from .batches import ImageSource, in_order
from .finetune import FinetuneResult, resolved
from .history import HISTORY, EpochRecord, History, read_history
from .identity import create_sampler, create_task, with_poses
from .loop import BEST, Job, Run, Task, data_digest, open_network, origin_of
from .settings import AdaptSettings, check_settings
from .step import reestimate_statistics

FEWEST_CROPS = 64
# Of the batch norms' statistics: all of it loses, of weights that know such crops, what half gains.
_OF_CROPS = 0.5
# What the logits of a centroid and of an image at the mean distance differ by.
_SHARPNESS = 10.0
# What may differ when the same adaptation goes on: more rounds, files in other places.
_FREE = ("rounds", "weights", "card", "crops", "data")


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
    """Adapt an identity network's weights to a folder of vehicle crops without labels.

    Round 0 moves the statistics of the batch norms half of the way to the crops'. Each round after
    it embeds the crops, clusters them, and trains on the clusters as if they were vehicles: the
    identity classifier is new and begins at their centroids, colour and type are taught the
    network's own answers. Sources: Li et al., 2016, and Schneider et al., NeurIPS 2020
    (:func:`.step.reestimate_statistics`); Ge et al., NeurIPS 2020, and Ester et al., KDD
    1996 (:func:`.ranking.clustering.cluster`); Zhong et al., CVPR 2017 (its distances).

    A call that is interrupted, or dies, loses the round in hand; the same call goes on after the
    last one that was finished, with the same result. It may ask for more rounds.

    Args:
        crops: the folder. Cameras are read from names such as ``0002_c003_00030600.jpg``; poses are
            estimated.
        output: for ``best.ckpt``, ``round-0.ckpt`` and so on, each with a sidecar and without
            identity classifier; ``history.json``, whose epochs are the rounds; ``report.html``.
        data: the root of a labelled data set, whose query and gallery measure every round.
        backend: what embeds, as in :class:`multitasknet.Predictor`; MindSpore trains.
        on_round: called with each round's record. Its metrics are ``clusters``, ``eps``, ``used``
            (percent of the crops), ``outliers`` and ``one_camera`` (crops left out) and
            ``silhouette`` of what it trained on; and what was measured after it on ``data``.
        device, workers, progress, cache_dir, offline: as in :func:`multitasknet.finetune`.
        settings: fields of :class:`multitasknet.training.settings.AdaptSettings`: ``weights``,
            ``card``, ``pose``, ``rounds`` among them; ``size`` is by default the weights', and
            ``freeze="blocks"`` trains the last block and the heads, ``"backbone"`` the heads alone.

    Returns:
        The :class:`FinetuneResult`. Its epochs are the rounds, from 0; its checkpoint is the best
        by mAP on ``data``, the weights as they were among them; without it the last.

    Raises:
        TrainingError: a setting is not allowed, there are fewer than 64 crops or fewer clusters
            than a batch takes, ``output`` holds another adaptation or one of other crops, or the
            loss is not finite.
        MissingExtraError: scikit-learn is not installed.
        DataError, CheckpointError, DownloadError: from the crops and the weights.
    """
    crops, output = Path(crops), Path(output)
    chosen = check_settings(settings, "settings", AdaptSettings)
    if chosen.rounds:
        import_extra("sklearn.cluster", "adapt")
    choose_device(device)
    labelled = VehicleDataset(crops) if data is None else read_dataset(data, ["query", "gallery"])
    warn_about(labelled)
    dataset = replace(labelled, root=crops, train=_read_crops(crops))
    chosen, source, weights = resolved(chosen, EMBEDDING_NETWORKS, cache_dir, offline, progress)
    facts = {
        "crops": str(crops),
        "images": len(dataset.train),
        "data": data and str(data),
        "weights_sha256": weights.sha256 if weights else "",
    }
    history = History(chosen.as_json() | facts, data_digest(dataset))
    if (output / HISTORY).exists():
        found = read_history(output / HISTORY)
        found.check_same(history.settings, output, data=history.data, free=_FREE)
        history = replace(found, settings=history.settings)
    if len(history.epochs) <= chosen.rounds:
        guard_cpu()
        mindspore.set_seed(chosen.seed)
        check_files(dataset.train.records, decode=True)
        backend = fastest_backend(device) if backend == "auto" else backend
        job = Job(chosen, dataset, output, source, weights, workers=workers, show=progress)
        adaptation = Adaptation(job, backend, history)
        make_folder(output)
        with exclusive(output, output / ".training.lock"):
            while len(adaptation.history.epochs) <= chosen.rounds:
                on_round(adaptation.next())
        history = adaptation.history
    return FinetuneResult(output, history, output / BEST)


def _read_crops(folder: Path) -> Split:
    images = find_images(folder)
    if len(images) < FEWEST_CROPS:
        raise TrainingError(
            f"{folder}: {len(images)} crops are too few to be clustered; give at least "
            f"{FEWEST_CROPS}, with several of each vehicle, better by more than one camera"
        )
    return Split(
        "train",
        tuple(Record(one, 0, camera_id=camera_in(one.name), origin=str(folder)) for one in images),
    )


class Adaptation:
    """The rounds; ``history`` grows with each. The crops are the job's split ``train``."""

    def __init__(self, job: Job, backend: Backend, history: History) -> None:
        self.definition = cast("EmbeddingNetwork", find_network(job.settings.network))
        spec = job.weights.spec if job.weights else self.definition.spec_type()
        known = job.weights.class_maps if job.weights else spec.class_maps
        # Which colours and types the classes are; identities are clusters.
        self.class_maps = replace(known, vehicle_ids=())
        self.job = replace(job, dataset=with_poses(job)) if spec.uses_pose else job
        self.backend, self.history = backend, history

    def next(self) -> EpochRecord:
        """Run the first round that is not in the history, measure it, and write it down."""
        started, number = time.perf_counter(), len(self.history.epochs)
        network, record = self._train(number) if number else self._move_statistics()
        measured, job = self._measure(network), self.job
        seconds = time.perf_counter() - started
        record = replace(record, seconds=seconds, metrics={**record.metrics, **measured})
        history = replace(self.history, epochs=(*self.history.epochs, record))
        self._save(f"round-{number}.ckpt", network, number, measured)
        if history.best is record:
            self._save(BEST, network, number, measured)
        # Last of all: it makes the round count.
        history.write(job.output, unit="round", epochs=job.settings.rounds, data=job.dataset.root)
        self.history = history
        return record

    def _move_statistics(self) -> tuple[Any, EpochRecord]:
        """Measure the weights, then move the batch norms' statistics to the crops'."""
        settings, crops = self.job.settings, self.job.dataset.train
        network = self._open(self.job.weights)
        self.history = replace(self.history, before=self._measure(network))
        if self.history.before:
            self._save(BEST, network, 0, self.history.before)
        order = np.random.default_rng(settings.seed).permutation(len(crops))
        # A smaller last batch would have statistics of its own.
        used = len(order) // settings.batch_size * settings.batch_size or len(order)
        batches = [order[places] for places in in_order(used, settings.batch_size)]
        images = ImageSource(crops, network.spec, self.class_maps, settings, self.job.workers)
        inputs = (batch.inputs for batch in images.read(batches))
        reestimate_statistics(network, inputs, share=_OF_CROPS)
        return network, EpochRecord(0, {})

    def _train(self, number: int) -> tuple[Any, EpochRecord]:
        """Cluster the crops and train on the clusters."""
        settings, crops = self.job.settings, self.job.dataset.train
        weights = read_weights(self.job.output / f"round-{number - 1}.ckpt", self.definition)
        network = self._open(weights)
        by_angle = network.spec.distance == "cosine"
        # As the classifier takes them.
        network.spec = network.spec.unnormalized()
        answers = self._embed(network, crops.records)
        compared = answers.embeddings
        if by_angle:
            compared = compared / np.linalg.norm(compared, axis=1, keepdims=True)
        found = cluster(compared, crops.camera_ids, eps=settings.eps, k1=settings.neighbors)
        needed = settings.batch_size // settings.instances
        if found.count < needed:
            raise TrainingError(
                f"round {number}: {found.count} clusters in {len(found.labels)} crops, but a batch "
                f"takes {needed}; give more crops of each vehicle, a smaller batch, or another "
                f"number of neighbours"
            )
        kept = found.labels != OUTLIER
        job = replace(
            self.job,
            settings=settings.model_copy(update={"epochs": settings.rounds * settings.epochs}),
            dataset=VehicleDataset(self.job.dataset.root, _labelled(crops, found, answers)),
            weights=weights,
        )
        run = Run(job, self._task(job, answers.embeddings[kept], found.labels[kept]), self.history)
        for epoch in range((number - 1) * settings.epochs, number * settings.epochs):
            record = run.train(epoch)
        trained = run.task.network
        trained.set_train(False)
        facts = {
            "clusters": found.count,
            "eps": found.eps,
            "used": 100 * float(kept.mean()),
            "outliers": found.outliers,
            "one_camera": found.one_camera,
            "silhouette": found.silhouette,
        }
        return trained, replace(record, epoch=number, metrics=facts)

    def _task(self, job: Job, embeddings: np.ndarray, labels: np.ndarray) -> Task:
        """One round's training: identities are the clusters ``labels`` of ``embeddings``.

        Each cluster's class begins at its centroid: logits of -s |f - c|^2, since random rows would
        pull the embeddings about before they mean anything. What is the same for all classes,
        -s |f|^2, is left out; s is ten times the inverse of two images' mean distance.
        """
        sampler = create_sampler(job)
        network = open_network(job, num_ids=int(labels.max()) + 1)
        classifier = getattr(network, self.definition.classifier)
        scale = _SHARPNESS / max(2 * embeddings.var(axis=0).sum(), 1e-12)
        centers = centroids(embeddings, labels)
        if classifier.has_bias:
            biases = -scale * np.einsum("nd,nd->n", centers, centers)
            classifier.bias.set_data(Tensor(biases.astype(np.float32)))
        else:
            # Of one length, so that the biases would be the same for all.
            centers /= np.linalg.norm(centers, axis=1, keepdims=True)
        rows = 2 * scale * centers / self.definition.classified_length(network)
        classifier.weight.set_data(Tensor(rows.astype(np.float32)))
        spec = network.spec
        classes = (tuple(range(one)) for one in (spec.num_ids, spec.num_colors, spec.num_types))
        return create_task(job, sampler, network, ClassMaps(*classes))

    def _open(self, weights: Weights | None) -> Any:
        """The network of these weights, with the classifiers that they have."""
        top = {} if weights is None or weights.spec.is_complete else {"include_top": False}
        return open_network(replace(self.job, weights=weights), **top)

    def _embed(self, network: Any, records: Sequence[Record]) -> Embeddings:
        size = self.job.settings.batch_size
        predictor = Predictor(network=network, batch_size=size, backend=self.backend, pose="none")
        return embed_records(predictor, records, progress=self.job.show)

    def _measure(self, network: Any) -> dict[str, float]:
        """mAP, Rank-k, colour and type on query and gallery; empty without them."""
        dataset = self.job.dataset
        if not len(dataset.query):
            return {}
        answers = self._embed(network, dataset.held_out.records)
        return evaluate_outputs(network.spec, dataset, answers).metrics

    def _save(self, name: str, network: Any, number: int, metrics: Mapping[str, float]) -> None:
        save_weights(
            network,
            self.job.output / name,
            class_maps=self.class_maps,
            metrics=metrics,
            origin=origin_of(self.job, self.history, number),
            # It knows the clusters of a round, and no vehicles.
            leave_out=(f"{self.definition.classifier}.",),
        )


def _labelled(crops: Split, found: Clustering, answers: Embeddings) -> Split:
    """The clustered crops, with cluster and the network's own colour and type as class indices."""
    columns = (one.tolist() for one in (found.labels, answers.colors, answers.types))
    records = (
        replace(record, vehicle_id=label, color_id=color, type_id=kind)
        for record, label, color, kind in zip(crops.records, *columns, strict=True)
        if label != OUTLIER
    )
    return replace(crops, records=tuple(records))
