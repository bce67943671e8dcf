"""MindIR files: MindSpore's own graphs, loaded without the Python network."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import mindspore
import numpy as np
from google.protobuf.message import DecodeError
from mindspore import Tensor, nn

from ..download import file_sha256
from ..errors import MultiTaskNetError
from ..network import MultiTaskNet
from ..serving.metadata import Metadata
from ..spec import POSE_SIZE
from . import run_in_batches


class MindirError(MultiTaskNetError, ValueError):
    """A file that MindSpore does not load."""


class MindirEngine:
    """Runs a file of :func:`multitasknet.export`.

    Raises:
        MindirError: no MindIR file, or a damaged one.
        MetadataError: a file that this package did not export.
    """

    name = "mindir"

    def __init__(self, path: Path) -> None:
        self.metadata = Metadata.from_strings(_user_info(path), str(path))
        self.spec = self.metadata.spec
        self.source = str(path)
        self._cell = nn.GraphCell(mindspore.load(str(path)))

    @cached_property
    def weights_sha256(self) -> str:
        return self.metadata.weights_sha256 or file_sha256(Path(self.source))

    def run(self, x: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, ...]:
        return run_in_batches(self._run, x, p, self.metadata.batch)

    def _run(self, x: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, ...]:
        inputs = (x, p) if self.spec.keypoint_aware else (x,)
        outputs = self._cell(*map(Tensor, inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output.asnumpy() for output in outputs)


def write_mindir(path: Path, network: MultiTaskNet, metadata: Metadata) -> None:
    """Write the network for inputs of ``spec.input_size``, with the metadata as user info."""

    def describe(model: object) -> None:
        model.user_info.update(metadata.as_strings())

    spec, batch = metadata.spec, metadata.batch
    inputs = [Tensor(shape=[batch, spec.channels, *spec.input_size], dtype=mindspore.float32)]
    if spec.keypoint_aware:
        inputs.append(Tensor(shape=[batch, POSE_SIZE], dtype=mindspore.float32))
    cell = _NamedWithPose(network) if spec.keypoint_aware else _Named(network)
    mindspore.export(cell, *inputs, file_name=str(path), file_format="MINDIR", custom_func=describe)


class _NamedWithPose(nn.Cell):
    """Its parameters' names become those of the file's inputs."""

    def __init__(self, network: MultiTaskNet) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, image: Tensor, pose: Tensor):
        return self.network(image, pose)


class _Named(nn.Cell):
    """As above, for a network that takes no pose."""

    def __init__(self, network: MultiTaskNet) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, image: Tensor):
        return self.network(image)


def _user_info(path: Path) -> dict[str, str]:
    from mindspore.train.mind_ir_pb2 import ModelProto

    try:
        return dict(ModelProto.FromString(path.read_bytes()).user_info)
    except (OSError, DecodeError) as error:
        raise MindirError(
            f"{path}: it cannot be read as MindIR ({error}); export it again"
        ) from error
