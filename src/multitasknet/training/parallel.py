"""Data-parallel training by MindSpore's own engine: what a process knows of the others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import mindspore
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype
from mindspore.communication import get_group_size, get_rank, init

from ..errors import TrainingError

# How mpirun and scripts with a rank table state the number of processes.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "RANK_SIZE")


@dataclass(frozen=True)
class Devices:
    """The processes that train one network together: this one's number, and how many there are."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls) -> Devices:
        """Join the processes that ``msrun`` started; any other process is alone.

        TrainingError: something else started several, which would all train into one folder.
        """
        if "MS_ROLE" not in os.environ:
            for name in _SIZES:
                if os.environ.get(name, "1") not in ("", "1"):
                    raise TrainingError(
                        f"{name} is {os.environ[name]}: this process is one of several that know "
                        f"nothing of each other; start them by msrun, see docs/training.md"
                    )
            return ALONE
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

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all of them wait for each other here."""
        if self.count == 1:
            return flag
        return bool(ops.AllReduce()(Tensor([flag], mstype.float32)).asnumpy()[0] > 0)


ALONE = Devices()
