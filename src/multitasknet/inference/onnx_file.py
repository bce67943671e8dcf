"""A network as an ONNX model: MindSpore writes it from the Cell, passes make it fast."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ..models.base import Shapes
from .graph import name_ends, onnx, simplify, to_half
from .metadata import Metadata


def build_onnx(cell: Any, metadata: Metadata) -> Any:
    """Build the model: inputs and outputs as the spec names them, float32 in any precision.

    Height and width are dynamic, and the batch too unless the metadata fix it.

    Args:
        cell: the network.
        metadata: what the file says of itself; its ``precision`` is float32 or float16.
    """
    spec = metadata.spec
    model = simplify(_exported(cell, spec))
    batch = metadata.batch or "batch"
    name_ends(
        model,
        _dimensions(spec.input_shapes(spec.input_size), batch, ("height", "width")),
        _dimensions(spec.output_shapes(spec.input_size), batch, ("map_height", "map_width")),
    )
    if metadata.precision == "float16":
        to_half(model)
    onnx.helper.set_model_props(model, metadata.as_strings())
    return model


def _dimensions(
    shapes: Shapes, batch: int | str, planes: tuple[str, str]
) -> dict[str, list[int | str]]:
    """Shapes with the batch, and with names for the height and width of planes."""
    return {
        name: [batch, shape[0], *planes] if len(shape) == 3 else [batch, *shape]
        for name, shape in shapes.items()
    }


def _exported(cell: Any, spec: Any) -> Any:
    import mindspore
    from mindspore import Tensor

    from ..weights.load import frozen_copy

    # Two images: a batch of one could be taken for a dimension that is not there.
    inputs = [
        Tensor(shape=[2, *shape], dtype=mindspore.float32)
        for shape in spec.input_shapes(spec.input_size).values()
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        # Of a Cell that was exported before, MindSpore 2.10 fails to write ONNX.
        twin = frozen_copy(cell)
        if hasattr(mindspore, "onnx"):
            mindspore.onnx.export(twin, *inputs, file_name=str(path))
        else:  # of an older MindSpore
            mindspore.export(twin, *inputs, file_name=str(path), file_format="ONNX")
        return onnx.load(path)


def check(model: Any) -> None:
    """Raise what ONNX's own checker raises for a model that breaks its rules."""
    onnx.checker.check_model(model, full_check=True)
