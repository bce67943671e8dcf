"""Files for other programs: their numbers, ends and what is written beside them; no host runs."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from multitasknet import (
    EngineError,
    MultiTaskNetError,
    Predictor,
    export,
    find_images,
    quantize,
)
from multitasknet.cli import main
from multitasknet.images import read_image

CROPS = find_images(Path(__file__).resolve().parents[1] / "assets" / "demo")


@pytest.fixture(autouse=True)
def _nothing_shipped() -> None:
    """The shipped weights and pictures are what is exported and compared here."""


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("synthetic", pose="none", backend="onnx", size=64)


def vectors(path: Path, *, normalized: bool = False) -> np.ndarray:
    """What an RGB file gives for four crops, prepared here as hosts prepare them."""
    session = onnxruntime.InferenceSession(path)
    rows, _, height, width = session.get_inputs()[0].shape
    x = np.float32([cv2.resize(read_image(crop), (width, height)) for crop in CROPS[:4]]) / 255
    if normalized:
        x = (x - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    parts = [x] if isinstance(rows, str) else np.split(x, len(x) // rows)
    return np.concatenate([session.run(None, {"images": part})[0] for part in parts])


@pytest.mark.parametrize("kind", ["float32", "oblong", "normalized", "fixed", "int8"])
def test_an_rgb_file_gives_the_predictors_embeddings(predictor, tmp_path, kind) -> None:
    target, options = tmp_path / "rgb.onnx", {"weights": "synthetic", "size": 64}
    normalized, rows = kind == "normalized", 2 if kind == "fixed" else "batch"
    if kind == "oblong":
        predictor = Predictor("synthetic", pose="none", backend="onnx", size=(96, 64))
        options["size"] = (96, 64)
    elif normalized:
        options |= {"normalized": True, "embedding_only": True}
    elif kind == "fixed":
        options["fixed_batch"] = rows
    elif kind == "int8":
        quantize(tmp_path / "int8.onnx", predictor, CROPS[:8])
        predictor = Predictor(tmp_path / "int8.onnx", pose="none", size=64)
        options["weights"] = tmp_path / "int8.onnx"
    assert export(target, rgb=True, **options).difference <= 1e-4
    ours, theirs = vectors(target, normalized=normalized), predictor.embed(CROPS[:4])
    assert np.linalg.norm(ours, axis=1) == pytest.approx(1, abs=1e-5)
    assert ((ours * theirs).sum(1) / np.linalg.norm(theirs, axis=1)).min() >= 0.9999
    # No vector is another picture's.
    assert (ours @ ours.T)[np.triu_indices(4, 1)].max() < 0.9999

    model = onnx.load(target)
    ends = {
        one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in (*model.graph.input, *model.graph.output)
    }
    wanted = {"images": [rows, 3, *predictor.size], "embedding": [rows, 1024]}
    if not normalized:
        wanted |= {"color_logits": [rows, 10], "type_logits": [rows, 9]}
    assert ends == wanted
    (stated,) = (json.loads(one.value) for one in model.metadata_props)
    assert stated["spec"]["input_size"] == list(predictor.size)
    assert stated["rgb"]["std"] == ([0.229, 0.224, 0.225] if normalized else [1, 1, 1])


def test_an_rgb_file_is_for_others_alone_and_kept_only_if_it_is_right(
    tmp_path, capsys, monkeypatch
) -> None:
    target = tmp_path / "rgb.onnx"
    assert main(["export", "--output", str(target), "--rgb", "--size", "64"]) == 0
    assert "from the predictor without poses (1 - cosine), on 8 pictures" in capsys.readouterr().out
    with pytest.raises(EngineError, match=r"rgb.onnx: it takes RGB alone, for other programs"):
        Predictor(target)
    with pytest.raises(MultiTaskNetError, match="vehiclepose"):
        export(target, name="vehiclepose", rgb=True)
    before = target.read_bytes()
    monkeypatch.setattr("multitasknet.inference.rgb.LEAST_COSINE", 1.1)
    with pytest.raises(EngineError, match=r"cosine .* the file is not kept"):
        export(target, rgb=True, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["rgb.onnx"]
    assert target.read_bytes() == before
