"""Which runtime and precision run an ONNX file on a CPU: one rule, from what was measured."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..errors import MultiTaskNetError
from ..models import pose_networks
from .engine import Backend, Engine, Hint, Precision
from .onnx_model import read_metadata

logger = logging.getLogger(__name__)

# With what each needs; without the package onnx, no weights become an ONNX file.
_RUNTIMES: dict[Backend, tuple[str, ...]] = {
    "onnx": ("onnxruntime", "onnx"),
    "openvino": ("openvino", "onnx"),
}
_REMEDIES = {
    "float32": "give the weights, or a float32 file of 'multitasknet export'",
    "int8": "write an INT8 file with 'multitasknet quantize', and give that",
}


class PrecisionError(MultiTaskNetError, ValueError):
    """A precision that this file, processor or engine does not have."""


@dataclass(frozen=True)
class Choice:
    """What runs a file.

    Attributes:
        runtime: the backend, ``onnx`` or ``openvino``.
        bfloat16: whether a float32 file is computed in bfloat16.
        reason: why, in a line.
    """

    runtime: Backend
    bfloat16: bool
    reason: str


def installed_runtimes() -> list[Backend]:
    """What is installed to run ONNX files on a CPU, in the order of speed in float32."""
    return [name for name, needed in _RUNTIMES.items() if all(map(find_spec, needed))]


def runnable_precisions() -> list[Precision]:
    """What float32 weights can be run in here."""
    from .openvino_engine import has_bfloat16

    runs_bfloat16 = "openvino" in installed_runtimes() and has_bfloat16()
    return ["float32", "bfloat16"] if runs_bfloat16 else ["float32"]


def choose(
    precision: Precision | None,
    *,
    stated: str,
    finds_keypoints: bool,
    runtimes: Sequence[str],
    has_bfloat16: bool,
    named: str = "the network",
) -> Choice:
    """Choose the runtime and the way to compute.

    Measured on 2 cores with AVX-512, VNNI and BF16 (``benchmarks/serving.md``), batches of 8: in
    float32 OpenVINO has 0.9 to 1.0 times the images/s of ONNX Runtime, in INT8 1.0 to 1.1 times,
    and its bfloat16 has 1.7 to 2.0 times ONNX Runtime's float32. On 2 cores with AVX2 OpenVINO has
    0.9 to 1.0 times in float32; in INT8 0.8 to 1.0 times for the identity network, but 1.1 to 1.3
    times for pose networks. ``auto`` is to leave embeddings at a mean cosine of 0.999 with those of
    float32, or more: in bfloat16 the shipped identity weights have 0.9997 on 600 held-out pictures
    (the least 0.997). A rounded pose network can move single keypoints to another cell: ``auto``
    leaves it in float32.

    Args:
        precision: what is asked for; None is the file's own.
        stated: the file's.
        finds_keypoints: whether it is a pose network.
        runtimes: those that may be chosen, the first by preference.
        has_bfloat16: whether one of them is OpenVINO and the processor computes in bfloat16.
        named: what to call the file in errors.

    Raises:
        PrecisionError: the precision is not to be had; says how it would be.
    """
    wanted = precision or stated
    if wanted == "auto":
        close = stated == "float32" and not finds_keypoints
        wanted = "bfloat16" if close and has_bfloat16 else stated
    if wanted == "bfloat16" and stated == "float32":
        if "openvino" not in runtimes:
            raise PrecisionError(
                "bfloat16 is for OpenVINO; pip install '.[openvino]', and choose the "
                "backend 'auto' or 'openvino'"
            )
        if not has_bfloat16:
            raise PrecisionError(
                "this processor does not compute in bfloat16 (AVX512-BF16 or AMX); choose the "
                "precision 'float32' or 'auto', or give an INT8 file of 'multitasknet quantize'"
            )
        return Choice("openvino", True, "OpenVINO, which alone computes in bfloat16")
    if wanted != stated:
        raise PrecisionError(
            f"{named}: it is {stated}, but the precision {wanted!r} is asked for; "
            f"{_REMEDIES.get(wanted, _REMEDIES['float32'])}"
        )
    if stated == "int8" and finds_keypoints and "openvino" in runtimes:
        return Choice("openvino", False, "OpenVINO, the faster one for pose networks in INT8")
    if runtimes[0] == "onnx":
        return Choice("onnx", False, f"ONNX Runtime, in {stated} not slower than OpenVINO")
    return Choice("openvino", False, f"OpenVINO in {stated}, chosen or alone installed")


@dataclass(frozen=True)
class OnnxHow:
    """How ONNX files are to be run on the CPU: ``backend`` to ``hint`` as in :func:`.open_engine`.

    Attributes:
        cache: the root of the cache, where OpenVINO's compiled networks are kept; None keeps none.
    """

    backend: Backend = "auto"
    precision: Precision | None = None
    threads: int | None = None
    hint: Hint = "latency"
    cache: Path | None = None

    def choose(self, stated: str, network: str, named: str) -> Choice:
        """:func:`choose` for a network of this name, from what is installed."""
        from .openvino_engine import has_bfloat16

        runtimes = self._runtimes()
        may_matter = self.precision in ("auto", "bfloat16") and "openvino" in runtimes
        return choose(
            self.precision,
            stated=stated,
            finds_keypoints=network in {one.name for one in pose_networks()},
            runtimes=runtimes,
            has_bfloat16=may_matter and has_bfloat16(),
            named=named,
        )

    def open_file(self, path: Path) -> Engine:
        """A file of :func:`multitasknet.export` or :func:`multitasknet.quantize`."""
        if self.precision is None and len(self._runtimes()) == 1:  # whatever the file holds
            return self.open(path, self.choose("float32", "", str(path)))
        metadata = read_metadata(path)
        return self.open(path, self.choose(metadata.precision, metadata.spec.network, str(path)))

    def _runtimes(self) -> list[Backend]:
        return [self.backend] if self.backend != "auto" else installed_runtimes() or ["onnx"]

    def open(self, model: Path | bytes, chosen: Choice, source: str = "") -> Engine:
        """The engine for a model, with the name that its weights have."""
        named = source or (model if isinstance(model, Path) else "the model")
        logger.info("%s: run by %s", named, chosen.reason)
        if chosen.runtime == "onnx":
            from .onnx_engine import OnnxEngine

            return OnnxEngine(model, source=source, threads=self.threads, hint=self.hint)
        from .openvino_engine import OpenVinoEngine

        return OpenVinoEngine(
            model,
            source=source,
            threads=self.threads,
            hint=self.hint,
            bfloat16=chosen.bfloat16,
            folder=self.cache and self.cache / "openvino",
        )
