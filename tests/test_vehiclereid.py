"""VehicleReID in the rooms that take it; its parity with PyTorch is in test_foreign_weights."""

from __future__ import annotations

from pathlib import Path

import onnx
from conftest import PHOTO

from multitasknet import Predictor, create_network, quantize, save_weights


def test_a_predictor_takes_it_opens_no_pose_network_and_int8_keeps_its_stem(
    small: None, tmp_path: Path
) -> None:
    network = create_network("vehiclereid", weights=None, num_ids=7, num_types=4)
    weights = save_weights(network, tmp_path / "reid.ckpt")
    predictor = Predictor(weights, size=64, backend="onnx", cache_dir=tmp_path)
    (found,) = predictor.predict([PHOTO])
    assert (predictor.spec.network, found.embedding.shape) == ("vehiclereid", (512,))
    assert found.color and found.type
    assert (found.pose.origin, found.quality) == ("neutral", 1)
    assert (predictor.pose_setting, predictor.pose_estimator) == ("not used", None)
    assert (predictor.origin.variant, predictor.origin.distance) == ("rgb", "cosine")
    # Random layers make a step of rounding large: what INT8 costs is a matter of trained weights.
    report = quantize(tmp_path / "int8.onnx", predictor, [PHOTO] * 4, min_cosine=-1)
    graph = onnx.load(report.path).graph
    (stem,) = (one for one in graph.node if one.op_type == "Conv" and "image" in one.input)
    assert stem.input[1] in {one.name for one in graph.initializer}, "the stem is float32"
