"""Data-parallel training by MindSpore's own engine: what a process knows of the others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype
from mindspore.communication import get_group_size, get_rank, init

from ..errors import TrainingError

# How other launchers state the number of processes.
_SIZES = {"mpirun": ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"), "a rank table": ("RANK_SIZE",)}


@dataclass(frozen=True)
class Devices:
    """The processes that train one network together: this one's number, and how many there are."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls) -> Devices:
        """Join the processes that ``msrun`` started; any other process is alone.

        Raises:
            TrainingError: something else started several, which would all write into one folder.
        """
        if "MS_ROLE" not in os.environ:
            launcher = other_launcher(os.environ)
            if launcher:
                raise TrainingError(
                    f"this process is one of several that {launcher} started, which know nothing "
                    f"of each other; start them by msrun, see docs/training.md"
                )
            return cls()
        # The scheduler, which msrun starts as well, stays in there until the workers are done.
        init()
        mindspore.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True)
        return cls(get_rank(), get_group_size())

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def reducer(self, parameters: Sequence[Parameter]) -> nn.Cell | None:
        """What averages gradients over the processes; None if there is but one."""
        return nn.DistributedGradReducer(parameters) if self.count > 1 else None

    def average(self, parameters: Sequence[Parameter]) -> None:
        """Set each parameter to its mean over the processes."""
        for parameter in parameters if self.count > 1 else ():
            ops.assign(parameter, ops.AllReduce()(parameter.value()) / self.count)

    def share(self, count: int) -> np.ndarray:
        """This process's part of ``count`` items, as many as any other's: the last come again."""
        size = -(-count // self.count)
        return np.minimum(np.arange(self.rank * size, (self.rank + 1) * size), count - 1)

    def joined(self, part: np.ndarray, count: int) -> np.ndarray:
        """What the processes made of their shares of ``count`` items, ``[count, ...]``."""
        if self.count == 1:
            return part
        return ops.AllGather()(Tensor(part)).asnumpy()[:count]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; a point where all of them meet."""
        if self.count == 1:
            return flag
        return bool(ops.AllReduce()(Tensor([flag], mstype.float32)).asnumpy()[0] > 0)

    def meet(self) -> None:
        """Wait until all processes are here."""
        self.any(False)


def other_launcher(environment: Mapping[str, str]) -> str:
    """What other than msrun started this process beside others; empty if nothing did."""
    for launcher, names in _SIZES.items():
        if any(environment.get(name, "1") not in ("", "1") for name in names):
            return launcher
    # Older scripts set the table and the rank, and leave the size to the table.
    alone = environment.get("RANK_SIZE") == "1"
    lone_rank = "RANK_TABLE_FILE" in environment and "RANK_ID" in environment
    return "a rank table" if lone_rank and not alone else ""
