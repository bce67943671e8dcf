"""Files for other programs: their numbers, ends and what is written beside them; no host runs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from conftest import ASSETS

from multitasknet import EngineError, ImageError, Predictor, export, find_images, quantize
from multitasknet.cli import main
from multitasknet.images import read_image
from multitasknet.inference.rgb import LEAST_COSINE
from multitasknet.integrations import Embedder, embed_patches

CROPS = find_images(ASSETS / "demo")


@pytest.fixture(autouse=True)
def _nothing_shipped() -> None:
    """The shipped weights and pictures are what is exported and compared here."""


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("synthetic", pose="none", backend="onnx", size=64)


def vectors(path: Path, *, normalized: bool) -> np.ndarray:
    """What an RGB file gives for four crops, prepared here as hosts prepare them."""
    session = onnxruntime.InferenceSession(path)
    rows, _, height, width = session.get_inputs()[0].shape
    x = np.float32([cv2.resize(read_image(crop), (width, height)) for crop in CROPS[:4]]) / 255
    if normalized:
        x = (x - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    parts = [x] if isinstance(rows, str) else np.split(x, len(x) // rows)
    return np.concatenate([session.run(None, {"images": part})[0] for part in parts])


def ends_of(path: Path) -> dict[str, list[int | str]]:
    graph = onnx.load(path).graph
    return {
        end.name: [one.dim_param or one.dim_value for one in end.type.tensor_type.shape.dim]
        for end in (*graph.input, *graph.output)
    }


@pytest.mark.parametrize("kind", ["oblong", "normalized", "fixed", "int8"])
def test_an_rgb_file_gives_the_predictors_embeddings(predictor, tmp_path, kind) -> None:
    options = {
        "oblong": {"size": (96, 64)},
        "normalized": {"normalized": True, "embedding_only": True},
        "fixed": {"fixed_batch": 2},
        "int8": {"weights": tmp_path / "int8.onnx"},
    }[kind]
    if kind == "int8":
        quantize(tmp_path / "int8.onnx", predictor, CROPS[:8])
    how = {"weights": "synthetic", "size": 64} | options
    predictor = Predictor(how["weights"], pose="none", backend="onnx", size=how["size"])
    target = tmp_path / "rgb.onnx"
    assert export(target, rgb=True, **how).difference <= 1e-4
    ours = vectors(target, normalized=kind == "normalized")
    theirs = predictor.embed(CROPS[:4])
    assert np.linalg.norm(ours, axis=1) == pytest.approx(1, abs=1e-5)
    assert ((ours * theirs).sum(1) / np.linalg.norm(theirs, axis=1)).min() >= 0.9999
    # No vector is another picture's.
    assert (ours @ ours.T)[np.triu_indices(4, 1)].max() < 0.9999
    rows = options.get("fixed_batch", "batch")
    wanted = {"images": [rows, 3, *predictor.size], "embedding": [rows, 1024]}
    if kind != "normalized":
        wanted |= {"color_logits": [rows, 10], "type_logits": [rows, 9]}
    assert ends_of(target) == wanted


def test_an_rgb_file_is_for_others_alone_and_kept_only_if_it_is_right(
    tmp_path, monkeypatch
) -> None:
    target = tmp_path / "rgb.onnx"
    export(target, rgb=True, size=64)
    with pytest.raises(EngineError, match=r"rgb.onnx: it takes RGB alone, for other programs"):
        Predictor(target)
    before = target.read_bytes()
    monkeypatch.setitem(LEAST_COSINE, "float32", 1.1)
    with pytest.raises(EngineError, match=r"cosine .* the file is not kept"):
        export(target, rgb=True, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["rgb.onnx"]
    assert target.read_bytes() == before


# What lies beside the file, what is in it, and what its user writes.
WRITTEN = {
    "ultralytics": ("1-b.yaml", 'with_reid: true; model: "{file}"', 'tracker="{beside}"'),
    "boxmot": (
        "1-b.onnx.metadata.json",
        '"embedding_dim": 1024; "preprocess": "resize"; "img_size": [\n    64,\n    64\n',
        'BotSort(reid_weights=Path("{file}"), proximity_thresh=1.0)',
    ),
    # y = scale * (x - offset) is what the file takes.
    "deepstream": (
        "1-b.deepstream.yml",
        f'onnxFile: "{{file}}"; inferDims: [3, 64, 64]; reidFeatureSize: 1024; netScaleFactor: '
        f"{1 / 255}\n; offsets: [0.0, 0.0, 0.0]",
        "replace ReID: in config_tracker_NvDCF_accuracy.yml by that of {beside}",
    ),
    # Modules have names that can be imported.
    "reid": ("_1_b_reid.py", "Vehicles('{file}'); input_size=(64, 64)", "from _1_b_reid import"),
    "fiftyone": ("_1_b_fiftyone.py", "Vehicles('{file}'); , (64, 64))", "from _1_b_fiftyone i"),
    "triton": (
        "1-b/config.pbtxt",
        'name: "1-b"\nbackend: "onnxruntime"\nmax_batch_size: 64\n; '
        'input {{ name: "images" data_type: TYPE_FP32 dims: [3, 64, 64] }}\n; '
        'output {{ name: "embedding" data_type: TYPE_FP32 dims: [1024] }}\noutput',
        "tritonserver --model-repository={folder}",
    ),
}


@pytest.mark.parametrize("host", WRITTEN)
def test_a_host_takes_the_file_with_what_lies_beside_it(tmp_path, capsys, host) -> None:
    name, parts, line = WRITTEN[host]
    command = ["export", "--output", str(tmp_path / "1-b.onnx"), "--for", host, "--size", "64"]
    assert main(command) == 0
    (file,) = tmp_path.rglob("*.onnx")
    places, text = {"file": file, "beside": tmp_path / name}, (tmp_path / name).read_text()
    assert [part for part in parts.format(**places).split("; ") if part not in text] == []
    assert line.format(**places, folder=tmp_path) in capsys.readouterr().out
    assert len(ends_of(file)) == (4 if host == "triton" else 2)
    (stated,) = (json.loads(one.value)["rgb"] for one in onnx.load(file).metadata_props)
    # BoxMOT alone subtracts ImageNet's mean.
    assert stated["mean"][0] == pytest.approx(0.485 if host == "boxmot" else 0)
    if name.endswith(".py"):
        compile(text, name, "exec")
    elif host != "triton":
        assert yaml.safe_load(text)


POSE = ASSETS / "vehiclepose_synthetic.ckpt"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("x.mindir", "--rgb", "x.mindir: --rgb and --for write ONNX; expected a name that ends in"),
        ("x.onnx", f"--rgb --weights {POSE}", "vehiclereid, but it is vehiclepose"),
        ("x.onnx", "--rgb --network vehiclepose", "vehiclepose gives keypoints: export it without"),
        ("x.onnx", f"--rgb --weights {ASSETS / 'poseestnet_veir.md'}", "but it is poseestnet"),
        ("x.onnx", "--for triton --fixed-batch 2", "leave --fixed-batch out"),
        ("x.onnx", "--embedding-only", "is for RGB files; give --rgb or --for"),
    ],
)
def test_what_no_rgb_file_can_be_is_refused(tmp_path, capsys, name, options, message) -> None:
    assert main(["export", "--output", str(tmp_path / name), *options.split()]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# In the hosts' own process


def picture_with_boxes() -> tuple[np.ndarray, np.ndarray]:
    """Three crops in one RGB picture, and a fourth box that lies outside."""
    picture, boxes = np.full((300, 900, 3), 90, np.uint8), []
    for place, crop in enumerate(CROPS[:3]):
        pixels = read_image(crop)[:290, :290]
        height, width = pixels.shape[:2]
        picture[5 : 5 + height, 300 * place : 300 * place + width] = pixels
        boxes.append([300 * place, 5, 300 * place + width, 5 + height])
    return picture, np.array([*boxes, [950, 10, 990, 50]], np.float32)


def test_an_embedder_takes_boxes_and_detections(predictor) -> None:
    picture, boxes = picture_with_boxes()
    crops = [picture[int(y1) : int(y2), int(x1) : int(x2)] for x1, y1, x2, y2 in boxes[:3]]
    wanted = predictor.embed(list(map(np.ascontiguousarray, crops)))
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    rgb, bgr = Embedder(predictor, bgr=False), Embedder(predictor)
    for found in (
        rgb(picture, boxes),
        bgr(picture[..., ::-1], np.column_stack([boxes, np.ones(4)])),
        bgr.extract_embeddings(SimpleNamespace(xyxy=boxes), picture[..., ::-1]),
        bgr.get_features(boxes, picture[..., ::-1]),
    ):
        assert found.dtype == np.float32 and not found[3].any()
        assert found[:3] == pytest.approx(wanted, abs=1e-5)
    assert rgb(picture, []).shape == (0, 1024)
    for other in (None, np.zeros((9, 9, 3)), np.zeros((9, 9), np.uint8)):
        with pytest.raises(ImageError, match=r"a uint8 array \[H, W, 3\]; was the file found"):
            rgb(other, boxes)


def test_patches_of_fiftyone_get_embedding_color_and_type(predictor, tmp_path) -> None:
    picture, boxes = picture_with_boxes()
    cv2.imwrite(str(tmp_path / "street.png"), picture[..., ::-1])

    class Fields(dict):
        """As FiftyOne's samples and detections: attributes by name, fields by key."""

        __getattr__ = dict.__getitem__

    shares = [(x1 / 900, y1 / 300, (x2 - x1) / 900, (y2 - y1) / 300) for x1, y1, x2, y2 in boxes]
    patches = [Fields(bounding_box=share) for share in shares]
    street = str(tmp_path / "street.png")
    full = Fields(filepath=street, vehicles=Fields(detections=patches))
    empty = Fields(filepath=street, vehicles=None)
    samples = Fields(iter_samples=lambda autosave: iter([full, empty]))
    embed_patches(samples, predictor, patches_field="vehicles", embeddings_field="vector")
    wanted = Embedder(predictor, bgr=False)(picture, boxes)
    for patch, vector in zip(patches[:3], wanted, strict=False):
        assert patch["vector"] == pytest.approx(vector, abs=1e-5)
        assert patch["color"] in predictor.spec.color_names and patch["type"]
    assert "vector" not in patches[3]
