"""How the toy is trained: to tell a picture's colours. A second task, with a loss of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from mindspore import Tensor, nn, ops

from multitasknet.data.records import Split
from multitasknet.data.samples import batch_inputs, load_sample
from multitasknet.hub.create_network import create_from
from multitasknet.training.batches import Batch, Draw
from multitasknet.training.loop import Parts, Task
from multitasknet.training.sampler import ShuffledSampler
from multitasknet.training.settings import Settings, setting


@dataclass(frozen=True)
class ToySettings(Settings):
    TASK: ClassVar[str] = f"{__name__}:ToyTask"

    noise: float = setting(0.01, "of the training pictures", least=0)


@dataclass(frozen=True)
class ToySource:
    """Pictures, and as labels their mean colours and what each counts."""

    split: Split
    spec: Any
    noise: float

    def training(self, batches: np.ndarray, draw: Draw) -> Iterator[Batch]:
        for step, indices in enumerate(batches):
            yield self._batch(indices, np.random.default_rng((*draw, step)))

    def plain(self, size: int) -> Iterator[Batch]:
        for start in range(0, len(self.split), size):
            yield self._batch(np.arange(start, min(start + size, len(self.split))), None)

    def _batch(self, indices: np.ndarray, rng: np.random.Generator | None) -> Batch:
        samples = [load_sample(self.split.records[index], self.spec) for index in indices]
        (pictures,) = batch_inputs(samples, self.spec, self.spec.input_size)
        colors = pictures.mean((2, 3))
        if rng is not None:
            pictures = pictures + rng.normal(0, self.noise, pictures.shape).astype(np.float32)
        weights = np.ones_like(colors)
        return Batch((Tensor(pictures),), (Tensor(colors), Tensor(weights)), indices)


class Distance(nn.Cell):
    def construct(self, outputs: Tensor, colors: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        loss = (weights * (outputs - colors) ** 2).mean()
        return loss, ops.stack((loss,))


class ToyTask(Task):
    losses = ("distance",)
    metric = "error"
    higher_is_better = False

    def create_sampler(self) -> ShuffledSampler:
        job, settings = self.job, self.job.settings
        return ShuffledSampler(
            len(job.dataset.train), settings.batch_size, settings.seed, job.devices.count
        )

    def create_network(self) -> nn.Cell:
        network = create_from(self.job.weights, "toy", width=3)
        size = self.job.settings.size
        network.spec = replace(network.spec, input_size=(size, size))
        return network

    def prepare(self, network: Any) -> Parts:
        source = ToySource(self.job.dataset.train, network.spec, self.job.settings.noise)

        def validate() -> dict[str, float]:
            errors = []
            for batch in source.plain(8):
                outputs = network(*batch.inputs).asnumpy()
                errors.append(np.abs(outputs - batch.labels[0].asnumpy()).mean(1))
            error = 100 * float(np.concatenate(errors).mean())
            return {"images": len(self.job.dataset.train), "error": error, "undefined": np.nan}

        return Parts(network, Distance(), source, validate)
