"""How the toy is trained: to tell a picture's colours. A second task, with a loss of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from mindspore import Tensor, nn, ops

from multitasknet.data.records import Split
from multitasknet.data.samples import batch_inputs, load_sample
from multitasknet.training.batches import Batch, Draw, ShuffledSampler, in_order
from multitasknet.training.loop import Job, Task, open_network
from multitasknet.training.settings import NotNegative, Settings


class ToySettings(Settings):
    TASK: ClassVar[str] = f"{__name__}:prepare"

    noise: NotNegative = 0.01  # of the training pictures


@dataclass(frozen=True)
class ToySource:
    """Pictures, and as labels their mean colours and what each counts."""

    split: Split
    spec: Any
    noise: float

    def read(self, batches: Sequence[np.ndarray], draw: Draw | None = None) -> Iterator[Batch]:
        for step, indices in enumerate(batches):
            samples = [load_sample(self.split.records[index], self.spec) for index in indices]
            (pictures,) = batch_inputs(samples, self.spec, self.spec.input_size)
            colors = pictures.mean((2, 3))
            if draw:
                rng = np.random.default_rng((*draw, step))
                pictures = pictures + rng.normal(0, self.noise, pictures.shape).astype(np.float32)
            weights = np.ones_like(colors)
            yield Batch((Tensor(pictures),), (Tensor(colors), Tensor(weights)), indices)


class Distance(nn.Cell):
    def construct(self, outputs: Tensor, colors: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        loss = (weights * (outputs - colors) ** 2).mean()
        return loss, ops.stack((loss,))


def prepare(job: Job) -> Task:
    settings, train = job.settings, job.dataset.train
    sampler = ShuffledSampler(len(train), settings.batch_size, settings.seed, job.devices.count)
    network = open_network(job, width=3)
    source = ToySource(train, network.spec, settings.noise)

    def validate() -> dict[str, float]:
        errors = []
        for batch in source.read(in_order(len(train), 8)):
            outputs = network(*batch.inputs).asnumpy()
            errors.append(np.abs(outputs - batch.labels[0].asnumpy()).mean(1))
        error = 100 * float(np.concatenate(errors).mean())
        return {"images": len(train), "error": error}

    return Task(
        network,
        sampler,
        source,
        Distance(),
        losses=("distance",),
        metric="error",
        higher_is_better=False,
        validate=validate,
    )
