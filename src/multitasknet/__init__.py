"""Vehicle re-identification with colour and type (PAMTRI) as a MindSpore Hub module.

The public names below are imported on first use, so that ``import multitasknet`` stays light and
MindSpore is loaded only by what needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_NAMES = {
    "card": ("Asset", "CardError", "ModelCard", "load_card"),
    "weights.loading": ("LoadReport", "load_weights"),
    "weights.converting": ("convert",),
    "download": ("DownloadError", "fetch_asset"),
    "errors": ("MissingExtraError", "MultiTaskNetError"),
    "serving.exporting": ("ExportError", "ExportReport", "export"),
    "finetuning": ("FinetuneResult", "finetune"),
    "hub": ("create_network",),
    "hub_folder": ("hub_install",),
    "ranking.index": ("EmbeddingOrigin", "GalleryIndex"),
    "labels": ("COLORS", "TYPES", "LabelError", "read_labels"),
    "network": ("MultiTaskNet",),
    "predict": ("Prediction", "Predictor"),
    "preprocessing": ("ImageError", "preprocess"),
    "publishing": ("write_card",),
    "serving.quantizing": ("QuantizationError", "QuantizationReport", "quantize"),
    "spec": ("VARIANTS", "NetworkSpec"),
    "synthetic": ("SyntheticData", "SyntheticError", "synthesize"),
    "veri": ("read_dataset",),
    "weights.reading": ("CheckpointError", "Weights", "read_weights"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'multitasknet' has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
