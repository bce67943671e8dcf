"""What trackers and other programs take beside an RGB file, and lines of their configuration."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from ..files import expand, replacing

if TYPE_CHECKING:
    from .conversion import Metadata
    from .export import ExportReport

# Texts by path, and what the host's user writes.
Written = tuple[dict[Path, str], str]


def export_for(
    host: str, output: str | Path, *, embedding_only: bool = False, **options: Any
) -> tuple[ExportReport, str]:
    """Write an RGB file as a host takes it, with what lies beside it.

    Args:
        host: a key of :data:`HOSTS`; BoxMOT subtracts ImageNet's mean itself, and only Triton takes
            more than one output.
        output: the file to write, ``.onnx``; Triton's goes into a model repository beside it.
        embedding_only: leave colour and type out for a host that takes them too, Triton.
        options: of :func:`multitasknet.export`.

    Returns:
        The file's report, and the lines of the host's own configuration.
    """
    from .export import export

    if options.get("fixed_batch") is not None:
        raise EngineError(
            f"--for {host} writes a file that takes any number of vehicles at a time; leave "
            f"--fixed-batch out"
        )
    path = expand(output).absolute()
    report = export(
        path.with_suffix("") / "1" / "model.onnx" if host == "triton" else path,
        rgb=True,
        embedding_only=embedding_only or host != "triton",
        normalized=host == "boxmot",
        **options,
    )
    beside, lines = HOSTS[host](report.path, report.metadata)
    for path, text in beside.items():
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")
    return report, lines


def _ultralytics(path: Path, stated: Metadata) -> Written:
    # All that its BoT-SORT reads, at the values of its documentation but for the last three; with
    # its proximity_thresh of 0.5, appearance counts only near a vehicle's last place.
    settings = {
        "tracker_type": "botsort",
        "track_high_thresh": 0.25,
        "track_low_thresh": 0.1,
        "new_track_thresh": 0.25,
        "track_buffer": 30,
        "match_thresh": 0.8,
        "fuse_score": True,
        "gmc_method": "sparseOptFlow",
        "appearance_thresh": 0.8,
        "proximity_thresh": 0.0,
        "with_reid": True,
        "model": str(path),
    }
    # JSON's values are YAML's.
    lines = (f"{name}: {json.dumps(value)}\n" for name, value in settings.items())
    tracker = path.with_suffix(".yaml")
    return {tracker: "".join(lines)}, (
        f'YOLO("yolo26n.pt").track("traffic.mp4", classes=[2, 5, 7], tracker={_quoted(tracker)})'
    )


def _boxmot(path: Path, stated: Metadata) -> Written:
    sidecar = {
        "model_name": path.stem,
        "model_kwargs_schema_version": 1,
        "model_kwargs": {"img_size": stated.spec.input_size},
        "img_size": stated.spec.input_size,
        "image_size": stated.spec.input_size,
        "embedding_dim": stated.spec.output_shapes(stated.spec.input_size)["embedding"][0],
        "preprocess": "resize",
    }
    return {path.with_suffix(".onnx.metadata.json"): json.dumps(sidecar, indent=2)}, (
        f"BotSort(reid_weights=Path({_quoted(path)}), proximity_thresh=1.0)\n"
        f"boxmot track --tracker botsort --reid {shlex.quote(str(path))} --source traffic.mp4\n"
        f"# the command keeps the default: appearance counts only near a vehicle's last place"
    )


_REID = '''"""Vehicles for Roboflow's reid: `from {module} import model`."""

import onnxruntime
import torch
from reid import ReIDModel, ReIDPreprocessing


class Vehicles(torch.nn.Module):
    def __init__(self, path):
        super().__init__()
        self.session = onnxruntime.InferenceSession(path)

    def forward(self, images):
        return torch.from_numpy(self.session.run(["embedding"], {{"images": images.numpy()}})[0])


model = ReIDModel(
    Vehicles({path!r}),
    torch.device("cpu"),
    ReIDPreprocessing(input_size={size}, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
)
'''
_REID_USE = "embeddings = model.extract_embeddings(detections, frame)"
_FIFTYONE = '''"""Vehicles for FiftyOne: `from {module} import model`."""

import cv2
import numpy as np
import onnxruntime
from fiftyone.core.models import EmbeddingsMixin, Model


class Vehicles(EmbeddingsMixin, Model):
    media_type, has_embeddings = "image", True
    ragged_batches, transforms, preprocess = True, None, False

    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(path)

    def predict(self, image):
        raise NotImplementedError("it gives embeddings alone")

    def embed(self, image):
        return self.embed_all([image])[0]

    def embed_all(self, images):
        pixels = [cv2.resize(image, ({size[1]}, {size[0]})) for image in images]
        planes = np.float32(pixels).transpose(0, 3, 1, 2) / 255
        return self.session.run(["embedding"], {{"images": np.ascontiguousarray(planes)}})[0]


model = Vehicles({path!r})
'''
_FIFTYONE_USE = (
    'samples.compute_patch_embeddings(model, "ground_truth", embeddings_field="embedding")\n'
    'fob.compute_similarity(samples, patches_field="ground_truth", embeddings="embedding", '
    'brain_key="vehicles")'
)


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)


def _module(host: str, text: str, use: str, path: Path, stated: Metadata) -> Written:
    """A module beside the file, whose name can be imported."""
    name = re.sub(r"\W|^(?=\d)", "_", f"{path.stem}_{host}", flags=re.ASCII)
    text = text.format(module=name, path=str(path), size=tuple(stated.spec.input_size))
    return {path.with_name(f"{name}.py"): text}, f"from {name} import model\n{use}"


def _deepstream(path: Path, stated: Metadata) -> Written:
    section = {
        "reidType": 2,
        "onnxFile": str(path),
        "modelEngineFile": f"{path}.engine",
        "batchSize": 100,
        "workspaceSize": 1000,
        "networkMode": 0,
        "inferDims": [3, *stated.spec.input_size],
        "inputOrder": 0,
        "colorFormat": 0,
        "netScaleFactor": 1 / 255,
        "offsets": [0.0, 0.0, 0.0],
        "keepAspc": 0,
        "reidFeatureSize": stated.spec.output_shapes(stated.spec.input_size)["embedding"][0],
        "reidHistorySize": 100,
        "addFeatureNormalization": 1,
        "outputReidTensor": 1,
    }
    lines = (f"  {name}: {json.dumps(value)}\n" for name, value in section.items())
    config = path.with_suffix(".deepstream.yml")
    return {config: "".join(["ReID:\n", *lines])}, (
        f"replace ReID: in config_tracker_NvDCF_accuracy.yml by that of {config}"
    )


def _triton(path: Path, stated: Metadata) -> Written:
    import onnx

    folder, shapes = path.parents[1], stated.spec.output_shapes(stated.spec.input_size)
    kept = [output.name for output in onnx.load(path).graph.output]
    ends = [("input", "images", (3, *stated.spec.input_size))]
    ends += [("output", name, shapes[name]) for name in kept]
    text = f'name: "{folder.name}"\nbackend: "onnxruntime"\nmax_batch_size: 64\n'
    for kind, name, shape in ends:
        text += f'{kind} {{ name: "{name}" data_type: TYPE_FP32 dims: {list(shape)} }}\n'
    return {folder / "config.pbtxt": f"{text}dynamic_batching {{ }}\n"}, (
        f"tritonserver --model-repository={shlex.quote(str(folder.parent))}"
    )


# For a file and what it states of itself, what lies beside it and its user's lines.
HOSTS: dict[str, Callable[[Path, Metadata], Written]] = {
    "ultralytics": _ultralytics,
    "boxmot": _boxmot,
    "reid": partial(_module, "reid", _REID, _REID_USE),
    "deepstream": _deepstream,
    "triton": _triton,
    "fiftyone": partial(_module, "fiftyone", _FIFTYONE, _FIFTYONE_USE),
}
