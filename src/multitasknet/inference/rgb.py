"""A network as one file from RGB to a vector, for programs that know no maps and no poses.

A 1x1 convolution before the network normalises the colours and fills the planes of the neutral
pose, the pose vector is a constant, and the embedding is divided by its length.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.helper import make_node

from ..data.samples import batch_inputs, make_sample
from ..errors import EngineError
from ..hub.card import assets_folder
from ..images import RGB_MEAN, RGB_STD, find_images, read_image, resize
from ..models.base import SIZE_STEP, Arrays
from .conversion import RGB, Metadata
from .engines import in_batches
from .graph import set_ends
from .predictor import Predictor

_INPUT, _EMBEDDING = "images", "embedding"
_CLASSES = ("color_logits", "type_logits")
# Of INT8 another order of sums is enough to round here and there to the next step, and a network
# of many layers makes that a thousandth.
LEAST_COSINE = {"float32": 0.9999, "int8": 0.99}
_CHECKED_PICTURES = 8
_SHORTEST = 1e-12


def write_rgb(
    path: Path,
    predictor: Predictor,
    *,
    batch: int | None = None,
    embedding_only: bool = False,
    normalized: bool = False,
) -> tuple[Metadata, float]:
    """Write the file; what it states of itself, and the least cosine with the predictor.

    The predictor is one without poses, run by ONNX Runtime or OpenVINO, float32 or INT8.
    EngineError if the embeddings of eight pictures are not its. Options are those of
    :func:`multitasknet.export`.
    """
    engine: Any = predictor.engine
    spec = replace(engine.spec, input_size=predictor.size)
    metadata = replace(engine.metadata, spec=spec, batch=batch)
    stated = (RGB_MEAN, RGB_STD) if normalized else ((0.0,) * 3, (1.0,) * 3)
    mean, std = np.array(stated, np.float32)
    model = onnx.load_from_string(engine.load())
    _take_rgb(model.graph, spec, mean, std)
    _give_unit_length(model.graph)
    shapes = spec.output_shapes(predictor.size)
    kept = [_EMBEDDING, *(name for name in _CLASSES if name in shapes and not embedding_only)]
    count = batch or "batch"
    outputs = {name: (count, *shapes[name]) for name in kept}
    set_ends(model.graph, {_INPUT: (count, 3, *predictor.size)}, outputs)
    ((key, text),) = metadata.as_strings().items()
    value = {**json.loads(text), RGB: dict(zip(("mean", "std"), stated, strict=True))}
    onnx.helper.set_model_props(model, {key: json.dumps(value)})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    cosine = _least_cosine(path, predictor, mean, std, batch)
    if not cosine >= (least := LEAST_COSINE[metadata.precision]):
        raise EngineError(
            f"{engine.source}: the cosine of the RGB file's embeddings with the predictor's is "
            f"{cosine:.6f}, expected at least {least}; the file is not kept"
        )
    return metadata, cosine


def _least_cosine(
    path: Path, predictor: Predictor, mean: np.ndarray, std: np.ndarray, batch: int | None
) -> float:
    """Between the embeddings that an RGB file and a predictor give of the demo's first pictures."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = find_images(assets_folder() / "demo")[:_CHECKED_PICTURES]
    pixels = [resize(read_image(image), predictor.size) for image in images]
    planes = (np.array(pixels, np.float32) / 255 - mean) / std
    x = np.ascontiguousarray(planes.transpose(0, 3, 1, 2))

    def run(*inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(session.run([_EMBEDDING], {_INPUT: inputs[0]}))

    (ours,) = in_batches(run, [x], batch)
    theirs = np.concatenate([predictor.engine.run(*one)[-1] for one in predictor.inputs(images)])
    return float(((ours * theirs).sum(1) / np.linalg.norm(theirs, axis=1)).min())


def _take_rgb(graph: Any, spec: Any, mean: np.ndarray, std: np.ndarray) -> None:
    """Make a graph's inputs from pixels that are (value / 255 - mean) / std."""
    black, white = (_neutral_inputs(spec, value) for value in (0, 255))
    image, *others = spec.input_shapes(spec.input_size)
    offset = black[0][0, :, 0, 0]
    scale = (white[0][0, :, 0, 0] - offset)[:3]
    weight = np.zeros((len(offset), 3, 1, 1), np.float32)
    weight[:3, :, 0, 0] = np.diag(scale * std)
    bias = offset.copy()
    bias[:3] += scale * mean
    nodes = [make_node("Conv", [_INPUT, "rgb.weight", "rgb.bias"], [image], kernel_shape=[1, 1])]
    constants = {"rgb.weight": weight, "rgb.bias": bias}
    for name, value in zip(others, black[1:], strict=True):
        # Once for each picture.
        nodes += [
            make_node("Shape", [_INPUT], [f"{name}.pictures"]),
            make_node("Gather", [f"{name}.pictures", f"{name}.first"], [f"{name}.count"]),
            make_node("Concat", [f"{name}.count", f"{name}.width"], [f"{name}.shape"], axis=0),
            make_node("Expand", [f"{name}.neutral", f"{name}.shape"], [name]),
        ]
        constants[f"{name}.first"] = np.array([0])
        constants[f"{name}.width"] = np.array(value.shape[1:])
        constants[f"{name}.neutral"] = value
    network = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *network])
    _add(graph, constants)


def _neutral_inputs(spec: Any, value: int) -> tuple[np.ndarray, ...]:
    """The network's inputs for a picture of one grey without a pose."""
    size = (SIZE_STEP, SIZE_STEP)
    return batch_inputs([make_sample(np.full((*size, 3), value, np.uint8), None, spec)], spec, size)


def _give_unit_length(graph: Any) -> None:
    plain, length, least, divisor = (
        f"{_EMBEDDING}.{word}" for word in ("plain", "length", "least", "divisor")
    )
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [plain if name == _EMBEDDING else name for name in names]
    graph.node.append(make_node("ReduceL2", [plain], [length], axes=[1], keepdims=1))
    graph.node.append(make_node("Max", [length, least], [divisor]))
    graph.node.append(make_node("Div", [plain, divisor], [_EMBEDDING]))
    _add(graph, {least: np.array([_SHORTEST], np.float32)})


def _add(graph: Any, constants: Arrays) -> None:
    graph.initializer.extend(onnx.numpy_helper.from_array(v, name) for name, v in constants.items())
