"""Run in a host's own environment: the host's classes load the file and embed, or track.

    python probes.py HOST FOLDER

FOLDER has what ``run.py`` wrote: the file and what lies beside it, ``frame.png``, ``boxes.npy``
(x1, y1, x2, y2), ``videos.npz``. Writes ``vectors.npy`` (a row a box), ``crops/*.png`` where the
host cuts boxes out its own way, and ``said.json``.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

FOLDER = Path(sys.argv[2])
MODEL = FOLDER / "vehicle.onnx"
FRAME = cv2.imread(str(FOLDER / "frame.png"))
BOXES = np.load(FOLDER / "boxes.npy")
EDGE_FRAMES = 6  # by which a vehicle's identity before and after is decided


def ultralytics() -> dict[str, Any]:
    import torch
    import yaml
    from ultralytics.engine.results import Boxes
    from ultralytics.trackers.bot_sort import BOTSORT
    from ultralytics.trackers.utils.reid import ReID

    settings = yaml.safe_load((FOLDER / "vehicle.yaml").read_text())
    encoder = ReID(settings["model"], device="cpu")
    centres = np.hstack([(BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]])
    (FOLDER / "crops").mkdir()
    for place, crop in enumerate(encoder._crop_detections(FRAME, centres)):
        cv2.imwrite(str(FOLDER / "crops" / f"{place:02}.png"), crop)
    np.save(FOLDER / "vectors.npy", np.stack(encoder(FRAME, centres)))

    def tracker(**changes: Any) -> Any:
        one = BOTSORT(SimpleNamespace(**{**settings, "device": "cpu", **changes}))

        def update(frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
            rows = np.column_stack([boxes, np.full(len(boxes), 0.9), np.full(len(boxes), 2)])
            found = one.update(Boxes(torch.tensor(rows), frame.shape[:2]).numpy(), frame)
            return found[:, :5] if len(found) else np.zeros((0, 5))

        return update

    return {
        "without appearance": track(tracker, with_reid=False),
        "near its last place": track(tracker, proximity_thresh=0.5),
        "wherever it comes back": track(tracker, proximity_thresh=0.0),
    }


def boxmot() -> dict[str, Any]:
    import torch
    from boxmot import BotSort
    from boxmot.reid.backends.onnx_backend import ONNXBackend

    backend = ONNXBackend(MODEL, torch.device("cpu"), half=False)
    np.save(FOLDER / "vectors.npy", backend.get_features(BOXES, FRAME))

    def tracker(**changes: Any) -> Any:
        one = BotSort(reid_weights=MODEL, **changes)

        def update(frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
            rows = np.column_stack([boxes, np.full(len(boxes), 0.9), np.full(len(boxes), 2)])
            found = np.asarray(one.update(rows, frame))
            return found[:, :5] if len(found) else np.zeros((0, 5))

        return update

    return {
        "without appearance": track(tracker, use_embeddings=False),
        "near its last place": track(tracker),
        "wherever it comes back": track(tracker, proximity_thresh=1.0),
    }


def reid() -> dict[str, Any]:
    import supervision

    sys.path.insert(0, str(FOLDER))
    from vehicle_reid import model

    found = model.extract_embeddings(supervision.Detections(xyxy=BOXES), FRAME)
    np.save(FOLDER / "vectors.npy", found)
    return {}


def supervision() -> dict[str, Any]:
    import supervision

    from multitasknet import Predictor
    from multitasknet.integrations import Embedder

    embedder = Embedder(Predictor(pose="none"))
    found = embedder.extract_embeddings(supervision.Detections(xyxy=BOXES), FRAME)
    np.save(FOLDER / "vectors.npy", found)
    return {}


def libreyolo() -> dict[str, Any]:
    from libreyolo.tracking.config import DeepOCSortConfig
    from libreyolo.tracking.deepocsort import DeepOCSortTracker

    from multitasknet import Predictor
    from multitasknet.integrations import Embedder

    embedder = Embedder(Predictor(pose="none"), bgr=False)
    tracker = DeepOCSortTracker(DeepOCSortConfig(), embedder=embedder)
    found = tracker._get_embedder()(FRAME[..., ::-1], BOXES)
    np.save(FOLDER / "vectors.npy", found)
    return {}


def fiftyone() -> dict[str, Any]:
    import fiftyone as fo
    import fiftyone.brain as brain
    from fiftyone.utils.patches import extract_patch

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
    np.save(FOLDER / "vectors.npy", np.stack([one["embedding"] for one in detections]))
    brain.compute_similarity(
        samples, patches_field="ground_truth", embeddings="embedding", brain_key="vehicles"
    )
    view = samples.to_patches("ground_truth").sort_by_similarity(detections[0].id, k=3)
    near = [str(patch.ground_truth.id) for patch in view]
    try:
        from multitasknet import Predictor
        from multitasknet.integrations import embed_patches
    except ImportError as error:
        return {"nearest is itself": near[0] == detections[0].id, "embed_patches": str(error)}
    embed_patches(samples, Predictor(pose="none"))
    named = [(one["color"], one["type"]) for one in samples.first()["ground_truth"].detections]
    return {"nearest is itself": near[0] == detections[0].id, "embed_patches": named}


def triton() -> dict[str, Any]:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    config = text_format.Parse(
        (FOLDER / "vehicle" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig()
    )
    return {"read by ModelConfig": config.name, "inputs": [list(one.dims) for one in config.input]}


def track(tracker: Any, **settings: Any) -> dict[str, int]:
    """Of how many vehicles the identity is the same before and after they pass each other, and how
    many identities there are, over all videos; each has a tracker of its own."""
    videos = np.load(FOLDER / "videos.npz")
    said = {"vehicles": 0, "kept": 0, "identities": 0}
    for pixels, boxes in zip(videos["pixels"], videos["boxes"], strict=True):
        whose = identities(tracker(**settings), pixels, boxes)
        last = len(pixels)
        ends = [
            (usual(ids, range(EDGE_FRAMES)), usual(ids, range(last - EDGE_FRAMES, last)))
            for ids in whose
        ]
        said["vehicles"] += len(whose)
        said["kept"] += sum(before == after is not None for before, after in ends)
        said["identities"] += len({one for ids in whose for one in ids.values()})
    return said


def identities(update: Any, pixels: np.ndarray, boxes: np.ndarray) -> list[dict[int, int]]:
    """Each vehicle's identities by frame."""
    whose: list[dict[int, int]] = [{} for _ in range(boxes.shape[1])]
    for number, (picture, places) in enumerate(zip(pixels, boxes, strict=True)):
        seen = np.flatnonzero(np.isfinite(places).all(axis=1))
        frame = np.ascontiguousarray(picture[..., ::-1])
        for *corners, identity in update(frame, places[seen].astype(np.float64)):
            overlaps = [overlap(np.array(corners), places[place]) for place in seen]
            if overlaps and max(overlaps) > 0.5:
                whose[seen[int(np.argmax(overlaps))]][number] = int(identity)
    return whose


def usual(identities: dict[int, int], frames: range) -> int | None:
    found = [identities[frame] for frame in frames if frame in identities]
    return max(set(found), key=found.count) if found else None


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    sides = (np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])).clip(0)
    both = float(sides.prod())
    return both / float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - both)


PACKAGES = {"triton": "tritonclient"}

if __name__ == "__main__":
    host = sys.argv[1]
    said = {"version": version(PACKAGES.get(host, host)), **globals()[host]()}
    (FOLDER / "said.json").write_text(json.dumps(said))
