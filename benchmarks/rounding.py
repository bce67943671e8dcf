"""How far bfloat16 moves the answers of the shipped weights, on any processor.

    python benchmarks/rounding.py [IMAGES ...]

Every weight, input and node's output is rounded to bfloat16 by casts in the ONNX graph, which ONNX
Runtime computes in float32. What ``precision="auto"`` may choose rests on it. Without images, the
demo's pictures are taken. Needs the extra [onnx].
"""

from __future__ import annotations

import argparse
from copy import copy
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from multitasknet import PoseEstimator, Predictor
from multitasknet.inference.onnx_engine import OnnxEngine
from multitasknet.inference.precision import cosines

PICTURES = Path(__file__).resolve().parents[1] / "assets" / "demo"
# They move values, or compute with whole numbers.
EXACT = frozenset({"Cast", "Constant", "Gather", "Resize", "Shape", "Slice", "Unsqueeze"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", type=Path)
    images = parser.parse_args().images or sorted(PICTURES.rglob("*.jpg"))
    pose = PoseEstimator("synthetic", backend="onnx")
    identity = Predictor("synthetic", backend="onnx", pose=pose)
    exact_poses = [one.keypoints for one in pose.estimate(images)]
    moved_poses = [one.keypoints for one in in_bfloat16(pose).estimate(images)]
    exact = identity.embed(images, exact_poses)
    ways = {
        "identity network": (in_bfloat16(identity), exact_poses),
        "pose network": (identity, moved_poses),
        "both": (in_bfloat16(identity), moved_poses),
    }
    print(f"embeddings' cosine with float32's, {len(images)} pictures, {identity.size[0]} px")
    for name, (runner, poses) in ways.items():
        found = cosines(runner.embed(images, poses), exact)
        print(f"{name:17} mean {found.mean():.5f}  least {found.min():.5f}")
    moved = np.linalg.norm((np.stack(moved_poses) - np.stack(exact_poses))[..., :2], axis=2)
    print(f"keypoints moved by {moved.mean():.3f} px on average, {moved.max():.1f} at most")


def in_bfloat16(runner):
    """The runner with all values of its network rounded."""
    rounding = copy(runner)
    rounding.engine = OnnxEngine(rounded(runner.engine.content()))
    return rounding


def rounded(content: bytes) -> bytes:
    """The network with everything rounded to bfloat16 where it arises."""
    model = onnx.load_from_string(content)
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = to_bfloat16(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    outputs = {one.name for one in graph.output}
    nodes, names = [], {}

    def round_off(name: str) -> None:
        half, names[name] = f"{name}_bfloat16", f"{name}_rounded"
        nodes.append(helper.make_node("Cast", [name], [half], to=TensorProto.BFLOAT16))
        nodes.append(helper.make_node("Cast", [half], [names[name]], to=TensorProto.FLOAT))

    for one in graph.input:
        round_off(one.name)
    for node in list(graph.node):
        node.input[:] = [names.get(name, name) for name in node.input]
        nodes.append(node)
        if node.op_type not in EXACT:
            for name in set(node.output) - outputs:
                round_off(name)
    del graph.node[:]
    graph.node.extend(nodes)
    return model.SerializeToString()


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Float32 with 8 bits of mantissa, rounded to the nearest, halves to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    odd = (bits >> 16) & 1
    return ((bits + 0x7FFF + odd) & np.uint32(0xFFFF0000)).view(np.float32).reshape(values.shape)


if __name__ == "__main__":
    main()
