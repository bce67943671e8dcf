"""Run in a host's own environment: the host's classes load the file and embed.

    python tracker_probes.py HOST FOLDER

FOLDER has what ``trackers.py`` wrote: the file and what lies beside it, ``frame.png``,
``boxes.npy`` (x1, y1, x2, y2). Writes ``vectors.npy`` (a row a box), and ``crops/*.png`` where the
host cuts boxes out its own way.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

FOLDER = Path(sys.argv[2])
MODEL = FOLDER / "vehicle.onnx"
FRAME = cv2.imread(str(FOLDER / "frame.png"))
BOXES = np.load(FOLDER / "boxes.npy")


def ultralytics() -> np.ndarray:
    import yaml
    from ultralytics.trackers.utils.reid import ReID

    settings = yaml.safe_load((FOLDER / "vehicle.yaml").read_text())
    encoder = ReID(settings["model"], device="cpu")
    centres = np.hstack([(BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]])
    (FOLDER / "crops").mkdir()
    for place, crop in enumerate(encoder._crop_detections(FRAME, centres)):
        cv2.imwrite(str(FOLDER / "crops" / f"{place:02}.png"), crop)
    return np.stack(encoder(FRAME, centres))


def boxmot() -> np.ndarray:
    import torch
    from boxmot.reid.backends.onnx_backend import ONNXBackend

    backend = ONNXBackend(MODEL, torch.device("cpu"), half=False)
    return backend.get_features(BOXES, FRAME)


def reid() -> np.ndarray:
    import supervision

    sys.path.insert(0, str(FOLDER))
    from vehicle_reid import model

    return model.extract_embeddings(supervision.Detections(xyxy=BOXES), FRAME)


def libreyolo() -> np.ndarray:
    from libreyolo.tracking.config import DeepOCSortConfig
    from libreyolo.tracking.deepocsort import DeepOCSortTracker

    from multitasknet import Predictor
    from multitasknet.integrations import Embedder

    embedder = Embedder(Predictor(pose="none"), bgr=False)
    tracker = DeepOCSortTracker(DeepOCSortConfig(), embedder=embedder)
    return tracker._get_embedder()(FRAME[..., ::-1], BOXES)


if __name__ == "__main__":
    host = sys.argv[1]
    np.save(FOLDER / "vectors.npy", globals()[host]())
    print(host, version(host))
