"""Weights of every origin into a file of the published layout, or of NVlabs'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from mindspore import Tensor
from safetensors.numpy import save_file

from ..errors import CheckpointError, OutputError
from ..files import check_output, expand, replacing, writing
from .formats import write_torch
from .load import parameter_shapes, write_checkpoint
from .read import Weights, cell_of, check_fit, read_weights
from .sidecar import sidecar_path, write_sidecar

_ENDINGS = (".ckpt", ".safetensors", ".pth")


def convert(
    source: str | Path,
    target: str | Path,
    *,
    float16: bool = False,
    without: Sequence[str] = (),
) -> Path:
    """Write the weights in ``source`` to ``target``, under the published names, or for PyTorch.

    Optimizer state, prefixes and an ImageNet classifier are left out. What weights from PyTorch
    need beyond the published layout becomes a further entry, such as MultiTaskNet's
    ``base.pool0.symmetric``; loaders that are not strict pass over it.

    Args:
        source: a file that :func:`multitasknet.read_weights` understands.
        target: the file to write, not the source; replaced if it exists. The source's sidecar goes
            beside it. It ends in ``.ckpt`` or ``.safetensors`` (published names), or in ``.pth``
            (NVlabs' names, in a ``state_dict``).
        float16: half the size: kernels and matrices in float16, which is what weights need. Biases
            and norms, which are small and hold variances, stay in float32.
        without: outermost cells to leave out that a network can do without, such as
            ``classifier_vid``, which only knows the training's vehicles.

    Raises:
        CheckpointError: the source cannot be read, or an entry is missing, unknown, misshapen or
            beyond float16's range; there is no such cell to leave out; or ``.pth``, and PyTorch's
            network would give other outputs.
        OutputError: also if a ``.json`` lies beside the target that is not the source's sidecar.
    """
    target = expand(target)
    if target.suffix not in _ENDINGS:
        raise OutputError(f"{target}: expected a file that ends in {', '.join(_ENDINGS)}")
    check_output(target, inputs=[expand(source)])
    weights = _leave_out(read_weights(source), without)
    shapes = parameter_shapes(weights.network, weights.spec)
    check_fit(weights, shapes)
    sidecar = weights.sidecar
    if sidecar is None and (stranger := sidecar_path(target)).exists():
        raise OutputError(
            f"{stranger}: would be read as the sidecar of {target.name}; move it away"
        )
    arrays = {name: np.ascontiguousarray(weights.arrays[name]) for name in shapes}
    if float16:
        arrays = {name: _halved(name, array, weights.path) for name, array in arrays.items()}
    if target.suffix == ".pth":
        arrays = weights.network.to_torch(arrays)
    with replacing(target) as part, writing(target):
        if target.suffix == ".ckpt":
            write_checkpoint(part, {name: Tensor(array) for name, array in arrays.items()})
        else:
            (write_torch if target.suffix == ".pth" else save_file)(arrays, part)
    if sidecar:
        write_sidecar(target, sidecar)
    return target


def _leave_out(weights: Weights, cells: Sequence[str]) -> Weights:
    optional = weights.network.optional_cells
    for cell in cells:
        if cell not in optional:
            raise CheckpointError(
                f"{weights.path}: {cell!r} cannot be left out of {weights.network.name}; only "
                f"{', '.join(optional) or 'nothing'} can"
            )
    kept = {name: array for name, array in weights.arrays.items() if cell_of(name) not in cells}
    return replace(weights, arrays=kept)


def _halved(name: str, array: np.ndarray, source: Path) -> np.ndarray:
    if array.ndim < 2:
        return array
    if np.abs(array).max() > np.finfo(np.float16).max:
        raise CheckpointError(
            f"{source}: {name} has values beyond float16's range; convert without float16"
        )
    return array.astype(np.float16)
