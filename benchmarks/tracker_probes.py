"""Run in a host's own environment: the host's classes load the file and embed.

    python tracker_probes.py HOST FOLDER

FOLDER has what ``trackers.py`` wrote: the file and what lies beside it, ``frame.png``,
``boxes.npy`` (x1, y1, x2, y2). Writes ``vectors.npy`` (a row a box), ``crops/*.png`` where the
host cuts boxes out its own way, and ``said.json``.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

FOLDER = Path(sys.argv[2])
MODEL = FOLDER / "vehicle.onnx"
FRAME = cv2.imread(str(FOLDER / "frame.png"))
BOXES = np.load(FOLDER / "boxes.npy")


def ultralytics() -> dict[str, Any]:
    import yaml
    from ultralytics.trackers.utils.reid import ReID

    settings = yaml.safe_load((FOLDER / "vehicle.yaml").read_text())
    encoder = ReID(settings["model"], device="cpu")
    centres = np.hstack([(BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]])
    (FOLDER / "crops").mkdir()
    for place, crop in enumerate(encoder._crop_detections(FRAME, centres)):
        cv2.imwrite(str(FOLDER / "crops" / f"{place:02}.png"), crop)
    return {"vectors": np.stack(encoder(FRAME, centres))}


def boxmot() -> dict[str, Any]:
    import torch
    from boxmot.reid.backends.onnx_backend import ONNXBackend

    backend = ONNXBackend(MODEL, torch.device("cpu"), half=False)
    return {"vectors": backend.get_features(BOXES, FRAME)}


def reid() -> dict[str, Any]:
    import supervision

    sys.path.insert(0, str(FOLDER))
    from vehicle_reid import model

    return {"vectors": model.extract_embeddings(supervision.Detections(xyxy=BOXES), FRAME)}


def supervision() -> dict[str, Any]:
    import supervision

    from multitasknet import Predictor
    from multitasknet.integrations import Embedder

    embedder = Embedder(Predictor(pose="none"))
    return {"vectors": embedder.extract_embeddings(supervision.Detections(xyxy=BOXES), FRAME)}


def libreyolo() -> dict[str, Any]:
    from libreyolo.tracking.config import DeepOCSortConfig
    from libreyolo.tracking.deepocsort import DeepOCSortTracker

    from multitasknet import Predictor
    from multitasknet.integrations import Embedder

    embedder = Embedder(Predictor(pose="none"), bgr=False)
    tracker = DeepOCSortTracker(DeepOCSortConfig(), embedder=embedder)
    return {"vectors": tracker._get_embedder()(FRAME[..., ::-1], BOXES)}


def fiftyone() -> dict[str, Any]:
    import fiftyone as fo
    import fiftyone.brain as brain
    from fiftyone.utils.patches import extract_patch

    from multitasknet import Predictor
    from multitasknet.integrations import embed_patches

    height, width = FRAME.shape[:2]
    shares = BOXES / [width, height, width, height]
    patches = [
        fo.Detection(label="vehicle", bounding_box=[x1, y1, x2 - x1, y2 - y1])
        for x1, y1, x2, y2 in shares.tolist()
    ]
    sample = fo.Sample(str(FOLDER / "frame.png"), ground_truth=fo.Detections(detections=patches))
    samples = fo.Dataset()
    samples.add_sample(sample)
    sys.path.insert(0, str(FOLDER))
    from vehicle_fiftyone import model

    samples.compute_patch_embeddings(model, "ground_truth", embeddings_field="embedding")
    detections = samples.first()["ground_truth"].detections
    (FOLDER / "crops").mkdir()
    for place, detection in enumerate(detections):
        cv2.imwrite(str(FOLDER / "crops" / f"{place:02}.png"), extract_patch(FRAME, detection))
    found = {"vectors": np.stack([one["embedding"] for one in detections])}
    brain.compute_similarity(
        samples, patches_field="ground_truth", embeddings="embedding", brain_key="vehicles"
    )
    view = samples.to_patches("ground_truth").sort_by_similarity(detections[0].id, k=3)
    near = [str(patch.ground_truth.id) for patch in view]
    embed_patches(samples, Predictor(pose="none"))
    named = [(one["color"], one["type"]) for one in samples.first()["ground_truth"].detections]
    return found | {"nearest is itself": near[0] == detections[0].id, "embed_patches": named}


def triton() -> dict[str, Any]:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    config = text_format.Parse(
        (FOLDER / "vehicle" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig()
    )
    return {"read by ModelConfig": config.name, "inputs": [list(one.dims) for one in config.input]}


PACKAGES = {"triton": "tritonclient"}

if __name__ == "__main__":
    host = sys.argv[1]
    said = {"version": version(PACKAGES.get(host, host)), **globals()[host]()}
    if "vectors" in said:
        np.save(FOLDER / "vectors.npy", said.pop("vectors"))
    (FOLDER / "said.json").write_text(json.dumps(said))
