"""The Cell itself."""

from __future__ import annotations

import hashlib
from functools import cached_property

import numpy as np
from mindspore import Tensor

from ..download import file_sha256
from ..network import MultiTaskNet


class MindSporeEngine:
    """Runs a network of :func:`multitasknet.create_network`."""

    name = "mindspore"

    def __init__(self, network: MultiTaskNet) -> None:
        self.network = network
        self.spec = network.spec
        self.source = str(network.load_report or "")

    @cached_property
    def weights_sha256(self) -> str:
        report = self.network.load_report
        if report is not None and not report.fresh:
            return file_sha256(report.source)
        digest = hashlib.sha256()
        for parameter in self.network.get_parameters():
            digest.update(parameter.asnumpy().tobytes())
        return digest.hexdigest()

    def run(self, x: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, ...]:
        self.network.set_train(False)
        outputs = self.network(Tensor(x), Tensor(p))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output.asnumpy() for output in outputs)
