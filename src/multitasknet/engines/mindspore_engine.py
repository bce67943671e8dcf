"""The Cell itself."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor

from ..network import MultiTaskNet


class MindSporeEngine:
    """Runs a network of :func:`multitasknet.create_network`."""

    name = "mindspore"

    def __init__(self, network: MultiTaskNet) -> None:
        self.network = network
        self.spec = network.spec
        self.source = str(network.load_report or "")

    def run(self, x: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, ...]:
        self.network.set_train(False)
        outputs = self.network(Tensor(x), Tensor(p))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output.asnumpy() for output in outputs)
