"""One training step: forward, backward, clipping, and the update if all is finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype
from mindspore.amp import DynamicLossScaler

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

    Forward and backward run as one compiled graph; the first call of a shape compiles it.

    Args:
        forward: a network in training mode, or a part of one, called with a batch's inputs.
        loss: Cell of the outputs and then the labels that returns (total, parts).
        optimizer: updates ``optimizer.parameters``; its learning rates are relative to the one to
            be set, see :func:`.optimization.create_optimizer`.
        clip: largest norm of all gradients together; larger ones are scaled down to it.
        scaled: scale the loss, for mixed precision: the scale falls when a step overflows.
        reducer: averages gradients over devices.
    """

    def __init__(
        self,
        forward: Callable,
        loss: nn.Cell,
        optimizer: nn.Optimizer,
        *,
        clip: float,
        scaled: bool = False,
        reducer: nn.Cell | None = None,
    ) -> None:
        self._optimizer = optimizer
        rates = {rate.name: rate for rate in optimizer.learning_rate}
        self._rates = [(rate, float(rate.asnumpy())) for rate in rates.values()]
        self._clip = clip
        self._reducer = reducer
        self.scaler = DynamicLossScaler(_FIRST_SCALE, 2, _SCALE_WINDOW) if scaled else None
        self._differentiated = cache(partial(_differentiated, forward, loss, optimizer.parameters))

    def __call__(self, inputs: tuple[Tensor, ...], labels: tuple[Tensor, ...]) -> StepResult:
        """Train on one batch."""
        total, parts, gradients = self.gradients(inputs, labels)
        norm = _global_norm(gradients)
        finite = math.isfinite(norm)
        if finite and norm > self._clip:
            gradients = tuple(gradient * (self._clip / norm) for gradient in gradients)
        if finite:
            self._optimizer(gradients)
        is_hopeless = not finite and self._scale <= 1
        if self.scaler:
            self.scaler.adjust(Tensor(finite))
        return StepResult(float(total.asnumpy()), parts.asnumpy(), norm, finite, is_hopeless)

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
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """The loss, its parts, and the gradients of all weights, averaged over the devices."""
        scale = self.scaler.scale_value.value() if self.scaler else Tensor(1.0, mstype.float32)
        differentiate = self._differentiated(len(inputs))
        (_, total, parts), gradients = differentiate(*inputs, *labels, scale)
        gradients = tuple(gradients)
        if self.scaler:
            gradients = self.scaler.unscale(gradients)
        if self._reducer:
            gradients = self._reducer(gradients)
        return total, parts, gradients


def _differentiated(
    forward: Callable, loss: nn.Cell, weights: tuple[Parameter, ...], inputs: int
) -> Callable:
    # Tensors one by one: those inside a tuple count as constants, a new graph for every batch.
    def scaled_loss(*tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        total, parts = loss(forward(*tensors[:inputs]), *tensors[inputs:-1])
        return total * tensors[-1], total, parts

    return mindspore.jit(mindspore.value_and_grad(scaled_loss, None, weights, has_aux=True))


def _global_norm(gradients: tuple[Tensor, ...]) -> float:
    squares = [ops.square(gradient.astype(mstype.float32)).sum() for gradient in gradients]
    return math.sqrt(float(ops.stack(squares).sum().asnumpy()))
