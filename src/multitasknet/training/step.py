"""One training step: forward, backward, clipping, and the update if all is finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype
from mindspore.amp import DynamicLossScaler, all_finite

from .parallel import Devices

_SCALE_WINDOW = 1000
_FIRST_SCALE = 2.0**14


@dataclass(frozen=True, eq=False)
class StepResult:
    """What one step did.

    Attributes:
        total: the loss.
        parts: float32, the loss's unweighted parts.
        gradient_norm: of all gradients together, before clipping.
        updated: whether the weights changed; they do not if a gradient is not finite.
        is_hopeless: it is not finite, and no smaller scale of the loss is left to try.
    """

    total: float
    parts: np.ndarray
    gradient_norm: float
    updated: bool
    is_hopeless: bool


class TrainingStep:
    """Trains on batches, of any number of inputs and labels.

    Forward, backward and clipping run as one compiled graph; the first call of a shape compiles it.

    Args:
        forward: a network in training mode, or a part of one, called with a batch's inputs.
        loss: Cell of the outputs and then the labels that returns (total, parts).
        optimizer: updates ``optimizer.parameters``; its learning rates are relative to the one to
            be set, see :func:`.optimization.create_optimizer`.
        clip: largest norm of all gradients together; larger ones are scaled down to it.
        scaled: scale the loss, for mixed precision: the scale falls when a step overflows.
        devices: gradients are averaged over them, and an overflow on one skips the step on all.
    """

    def __init__(
        self,
        forward: Callable,
        loss: nn.Cell,
        optimizer: nn.Optimizer,
        *,
        clip: float,
        scaled: bool = False,
        devices: Devices | None = None,
    ) -> None:
        self._forward, self._loss, self._clip = forward, loss, clip
        self._optimizer = optimizer
        rates = {rate.name: rate for rate in optimizer.learning_rate}
        self._rates = [(rate, float(rate.asnumpy())) for rate in rates.values()]
        self._devices = devices or Devices()
        self._reducer = self._devices.reducer(optimizer.parameters)
        self.scaler = DynamicLossScaler(_FIRST_SCALE, 2, _SCALE_WINDOW) if scaled else None
        self._compiled = cache(self._compile)

    def __call__(self, inputs: tuple[Tensor, ...], labels: tuple[Tensor, ...]) -> StepResult:
        """Train on one batch."""
        report, gradients = self.gradients(inputs, labels)
        # The one point where the host waits for the device.
        total, norm, *parts = report.asnumpy().tolist()
        overflowed = not math.isfinite(norm)
        if self.scaler:
            # The first Ascend series (910A) has no infinity: what overflows becomes the largest
            # number, the norm stays finite, and only the device's own flag shows it.
            overflowed = self._devices.any(overflowed or not all_finite(gradients))
        if not overflowed:
            self._optimizer(gradients)
        is_hopeless = overflowed and self._scale <= 1
        if self.scaler:
            self.scaler.adjust(Tensor(not overflowed))
        return StepResult(total, np.array(parts, np.float32), norm, not overflowed, is_hopeless)

    @property
    def _scale(self) -> float:
        return float(self.scaler.scale_value.asnumpy()) if self.scaler else 1.0

    @property
    def state(self) -> list[Parameter]:
        """What a resumed training needs beside the weights."""
        weights = {parameter.name for parameter in self._optimizer.parameters}
        state = [p for p in self._optimizer.get_parameters() if p.name not in weights]
        return [*state, self.scaler.scale_value, self.scaler.counter] if self.scaler else state

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step; the backbone gets its part of it."""
        for current, part in self._rates:
            # Not set_data: the compiled graph would keep the rate that it was compiled with.
            ops.assign(current, Tensor(rate * part, mstype.float32))

    def gradients(
        self, inputs: tuple[Tensor, ...], labels: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What one step follows, averaged over the devices.

        Returns:
            The loss, the norm of all gradients together and the loss's parts, float32 ``[2 + L]``;
            and the gradients of all weights, clipped. They are no use if the norm is not finite.
        """
        scale = self.scaler.scale_value.value() if self.scaler else Tensor(1.0, mstype.float32)
        return self._compiled(len(inputs))(*inputs, *labels, scale)

    def _compile(self, inputs: int) -> Callable[..., Any]:
        """The graph for that number of inputs: takes them, the labels and the loss's scale."""
        forward, loss, reducer, clip = self._forward, self._loss, self._reducer, self._clip

        # Tensors one by one: those inside a tuple count as constants, a new graph for every batch.
        def scaled_loss(*tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            total, parts = loss(forward(*tensors[:inputs]), *tensors[inputs:-1])
            return total * tensors[-1], total, parts

        weights = self._optimizer.parameters
        differentiate = mindspore.value_and_grad(scaled_loss, None, weights, has_aux=True)
        # Over the gradients; a loop would be compiled into a graph of its own for each of them.
        each, bound = ops.HyperMap(), ops.Partial()

        def step(*tensors: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            (_, total, parts), gradients = differentiate(*tensors)
            gradients = each(bound(_scaled, 1 / tensors[-1]), gradients)
            if reducer is not None:
                gradients = reducer(gradients)
            norm = ops.sqrt(ops.addn(each(_square_sum, gradients)))
            factor = ops.minimum(clip / norm, Tensor(1.0, mstype.float32))
            clipped = each(bound(_scaled, factor), gradients)
            figures = ops.stack((total.astype(mstype.float32), norm))
            return ops.concat((figures, parts.astype(mstype.float32))), clipped

        # Not the default, which is GE on the first Ascend series under MindSpore 2.7 and 2.8.
        return mindspore.jit(step, backend="ms_backend", jit_level="O0")


def _scaled(factor: Tensor, gradient: Tensor) -> Tensor:
    return gradient * factor.astype(gradient.dtype)


def _square_sum(gradient: Tensor) -> Tensor:
    return ops.square(gradient.astype(mstype.float32)).sum()
