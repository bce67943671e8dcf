"""Files for other programs: their numbers, ends and what is written beside them; no host runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from conftest import ASSETS

from multitasknet import (
    EngineError,
    Predictor,
    export,
    find_images,
    quantize,
)
from multitasknet.cli import main
from multitasknet.images import read_image
from multitasknet.inference.export import ExportReport
from multitasknet.inference.rgb import LEAST_COSINE
from multitasknet.inference.tracker_files import HOSTS, export_for
from multitasknet.integrations import Embedder, embed_patches

CROPS = find_images(ASSETS / "demo")


@pytest.fixture(autouse=True)
def _nothing_shipped() -> None:
    """The shipped weights and pictures are what is exported and compared here."""


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("synthetic", pose="none", backend="onnx", size=64)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    return export(tmp_path_factory.mktemp("rgb") / "rgb.onnx", rgb=True, size=64)


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


@pytest.mark.parametrize("kind", ["oblong", "normalized", "fixed", "int8"])
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
    before = target.read_bytes()
    monkeypatch.setitem(LEAST_COSINE, "float32", 1.1)
    with pytest.raises(EngineError, match=r"cosine .* the file is not kept"):
        export(target, rgb=True, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["rgb.onnx"]
    assert target.read_bytes() == before


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_takes_the_file_with_what_lies_beside_it(plain, tmp_path, host) -> None:
    path = HOSTS[host].place(tmp_path / "cars.onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(plain.path, path)
    beside, lines = HOSTS[host].write(path, plain.metadata)
    ((place, text),) = beside.items()
    name = str(place.relative_to(tmp_path))
    if host == "ultralytics":
        settings = yaml.safe_load(text)
        assert (name, settings["with_reid"], settings["model"]) == ("cars.yaml", True, str(path))
        assert f'tracker="{tmp_path / "cars.yaml"}"' in lines
    elif host == "boxmot":
        stated = json.loads(text)
        assert name == "cars.onnx.metadata.json" and HOSTS[host].normalized
        assert stated["model_kwargs"]["img_size"] == stated["image_size"] == [64, 64]
        assert (stated["embedding_dim"], stated["preprocess"]) == (1024, "resize")
        assert f'reid_weights=Path("{path}")' in lines
    elif host == "deepstream":
        section = yaml.safe_load(text)["ReID"]
        assert (name, section["onnxFile"]) == ("cars.deepstream.yml", str(path))
        assert (section["inferDims"], section["reidFeatureSize"]) == ([3, 64, 64], 1024)
        # y = scale * (x - offset) is what the file takes.
        assert section["netScaleFactor"] * 255 == pytest.approx(1) and not any(section["offsets"])
    elif host == "triton":
        assert (path, name) == (tmp_path / "cars" / "1" / "model.onnx", "cars/config.pbtxt")
        assert text.splitlines()[:5] == [
            'name: "cars"',
            'backend: "onnxruntime"',
            "max_batch_size: 64",
            'input { name: "images" data_type: TYPE_FP32 dims: [3, 64, 64] }',
            'output { name: "embedding" data_type: TYPE_FP32 dims: [1024] }',
        ]
        assert text.count("output {") == 3 and f"--model-repository={tmp_path}" in lines
    else:
        compile(text, host, "exec")
        assert name == f"cars_{host}.py" and str(path) in text and "64, 64" in text
        assert f"from cars_{host} import model" in lines


@pytest.mark.parametrize(
    ("name", "module"), [("v-1", "v_1_reid"), ("a b", "a_b_reid"), ("1²", "_1__reid")]
)
def test_modules_have_names_that_can_be_imported(plain, name, module) -> None:
    beside, lines = HOSTS["reid"].write(Path(f"/x/{name}.onnx"), plain.metadata)
    assert f"from {module} import model\n" in lines
    assert f"`from {module} import model`" in beside[Path(f"/x/{module}.py")]


def test_the_command_writes_all_of_it_and_prints_the_hosts_lines(tmp_path, capsys) -> None:
    target = tmp_path / "cars.onnx"
    command = ["export", "--output", str(target), "--for", "boxmot", "--size", "64"]
    assert main(command) == 0
    lines = capsys.readouterr().out
    assert f'BotSort(reid_weights=Path("{target}"), proximity_thresh=1.0)' in lines
    assert "the command keeps the default" in lines
    assert {path.name for path in tmp_path.iterdir()} == {"cars.onnx", "cars.onnx.metadata.json"}
    assert [end.name for end in onnx.load(target).graph.output] == ["embedding"]


def test_triton_takes_the_embedding_alone_if_asked(tmp_path) -> None:
    report, _ = export_for("triton", tmp_path / "x.onnx", size=64, embedding_only=True)
    assert [end.name for end in onnx.load(report.path).graph.output] == ["embedding"]
    assert (tmp_path / "x" / "config.pbtxt").read_text().count("output {") == 1
    with pytest.raises(ValueError, match="'norfair'; expected one of ultralytics, boxmot, reid,"):
        export_for("norfair", tmp_path / "x.onnx")


POSE = str(ASSETS / "vehiclepose_synthetic.ckpt")
OTHER = "expected multitasknet or vehiclereid, but it is vehiclepose"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("x.mindir", "--rgb", "x.mindir: --rgb and --for write ONNX; expected a name that ends in"),
        ("x", "--for triton", "x: --rgb and --for write ONNX; expected a name that ends in .onnx"),
        ("x.onnx", f"--rgb --weights {POSE}", OTHER),
        ("x.onnx", "--rgb --network vehiclepose", "vehiclepose gives keypoints: export it without"),
        ("x.onnx", "--rgb --network poseestnet --weights card", "poseestnet gives keypoints"),
        ("x.onnx", f"--rgb --weights {ASSETS / 'poseestnet_veir.md'}", "poseestnet gives keypo"),
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
    wanted = predictor.embed([np.ascontiguousarray(crop) for crop in crops])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    rgb, bgr = Embedder(predictor, bgr=False), Embedder(predictor)
    for found in (
        rgb(picture, boxes),
        bgr(picture[..., ::-1], np.column_stack([boxes, np.ones(4)])),
        bgr.extract_embeddings(SimpleNamespace(xyxy=boxes), picture[..., ::-1]),
        bgr.get_features(boxes, picture[..., ::-1]),
    ):
        assert found.dtype == np.float32
        assert found[:3] == pytest.approx(wanted, abs=1e-5)
        assert not found[3].any()
    for nothing in ([], np.zeros((0, 4))):
        assert rgb(picture, nothing).shape == (0, 1024)


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        (None, TypeError, "not NoneType; was the file found"),
        (np.zeros((9, 9, 3)), ValueError, r"not float64 \[9, 9, 3\]"),
        (np.zeros((9, 9), np.uint8), ValueError, r"not uint8 \[9, 9\]"),
    ],
)
def test_an_embedder_says_what_a_picture_is(predictor, picture, error, message) -> None:
    with pytest.raises(error, match=rf"a uint8 array \[H, W, 3\], {message}"):
        Embedder(predictor)(picture, [[0, 0, 5, 5]])


def test_patches_of_fiftyone_get_embedding_color_and_type(predictor, tmp_path) -> None:
    picture, boxes = picture_with_boxes()
    cv2.imwrite(str(tmp_path / "street.png"), picture[..., ::-1])
    shares = [(x1 / 900, y1 / 300, (x2 - x1) / 900, (y2 - y1) / 300) for x1, y1, x2, y2 in boxes]

    class Patch(dict):
        """As FiftyOne's detections: attributes by name, fields by key."""

        bounding_box: tuple[float, ...]

    patches = [Patch() for _ in shares]
    for patch, share in zip(patches, shares, strict=True):
        patch.bounding_box = share

    class Sample(dict):
        filepath = str(tmp_path / "street.png")

    full = Sample(vehicles=SimpleNamespace(detections=patches))
    samples = SimpleNamespace(iter_samples=lambda autosave: iter([full, Sample(vehicles=None)]))
    embed_patches(samples, predictor, patches_field="vehicles", embeddings_field="vector")
    wanted = Embedder(predictor, bgr=False)(picture, boxes)
    x1, y1, x2, y2 = boxes[0].astype(int)
    named = predictor.predict([np.ascontiguousarray(picture[y1:y2, x1:x2])])[0]
    assert np.stack([patch["vector"] for patch in patches[:3]]) == pytest.approx(
        wanted[:3], abs=1e-5
    )
    assert (patches[0]["color"], patches[0]["type"]) == (named.color, named.type)
    assert not patches[3]
