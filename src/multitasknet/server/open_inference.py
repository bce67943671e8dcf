"""The Open Inference Protocol, version 2, as KServe's and Triton's clients speak it.

JSON, and the binary tensor extension: behind the JSON head of ``Inference-Header-Content-Length``
bytes the tensors follow, little-endian.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from .. import __version__
from ..errors import shown
from ..inference.runner import Runner
from ..models.base import SIZE_STEP
from .api import service_of
from .problems import Json, ProblemError, as_json
from .requests import MOST_IMAGES, parse_body

router = APIRouter(prefix="/v2")
_HEAD = "Inference-Header-Content-Length"
_TYPE = "FP32"
# The page /docs shows it, with its own address.
_EXAMPLE = """\
import numpy as np
from tritonclient.http import InferenceServerClient, InferInput

client = InferenceServerClient('127.0.0.1:8000')
inputs = []
for one in client.get_model_metadata('multitasknet')['inputs']:
    shape = [1, *(64 if side < 0 else side for side in one['shape'][1:])]
    inputs.append(InferInput(one['name'], shape, one['datatype']))
    inputs[-1].set_data_from_numpy(np.zeros(shape, np.float32))
print(client.infer('multitasknet', inputs).as_numpy('embedding').shape)
"""


@router.get("")
async def server() -> Response:
    """What speaks."""
    return Json(
        {"name": "multitasknet", "version": __version__, "extensions": ["binary_tensor_data"]}
    )


@router.get("/health/live")
async def live() -> Response:
    """That it lives."""
    return Json({"live": True})


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """Whether the weights are loaded; 503 if not."""
    service_of(request)
    return Json({"ready": True})


@router.get("/models/{name}/ready")
@router.get("/models/{name}/versions/{version}/ready", include_in_schema=False)
async def model_ready(request: Request, name: str, version: str = "1") -> Response:
    """Whether a network is ready."""
    _runner(request, name, version)
    return Json({"name": name, "ready": True})


@router.get("/models/{name}")
@router.get("/models/{name}/versions/{version}", include_in_schema=False)
async def model(request: Request, name: str, version: str = "1") -> Response:
    """A network's inputs and outputs; -1 where any number goes."""
    runner = _runner(request, name, version)
    inputs, outputs = (
        [{"name": one, "datatype": _TYPE, "shape": _open_shape(shape)} for one, shape in ends]
        for ends in (_inputs(runner).items(), runner.spec.output_shapes(runner.size).items())
    )
    about = {"name": name, "versions": ["1"], "platform": runner.engine.name}
    return Json(about | {"inputs": inputs, "outputs": outputs})


@router.post(
    "/models/{name}/infer",
    openapi_extra={"x-codeSamples": [{"lang": "Python", "source": _EXAMPLE}]},
)
@router.post("/models/{name}/versions/{version}/infer", include_in_schema=False)
async def infer(request: Request, name: str, version: str = "1") -> Response:
    """A network's outputs for its inputs."""
    runner = _runner(request, name, version)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise ProblemError(415, "expected a body that is not compressed", field="content-encoding")
    head, tensors = await run_in_threadpool(_read, await request.body(), request.headers.get(_HEAD))
    inputs = tuple(_checked(tensors, one, shape) for one, shape in _inputs(runner).items())
    rows = len(inputs[0])
    if any(len(one) != rows for one in inputs) or not 0 < rows <= MOST_IMAGES:
        detail = f"expected as many rows in each, 1 to {MOST_IMAGES}"
        raise ProblemError(400, detail, field="inputs")
    names = list(runner.spec.output_shapes(runner.size))
    outputs = dict(zip(names, await service_of(request).run(name, inputs), strict=True))
    return _answer(name, head, outputs)


def _runner(request: Request, name: str, version: str) -> Runner:
    runner = service_of(request).runners.get(name)
    if runner is None or version != "1":
        known = ", ".join(service_of(request).runners)
        asked = f"{name[:100]!r} of version {version[:20]!r}"
        raise ProblemError(404, f"no network {asked}; there are {known}, of version 1")
    return runner


def _inputs(runner: Runner) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = runner.spec.input_shapes(runner.size)
    return shapes


def _open_shape(shape: tuple[int, ...]) -> list[int]:
    return [-1, shape[0], -1, -1] if len(shape) == 3 else [-1, *shape]


def _read(body: bytes, length: str | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The JSON head, and the tensors in it or behind it."""
    if length is not None and not (length.isascii() and length.isdigit() and len(length) < 12):
        raise ProblemError(400, "expected a number of bytes", field=_HEAD)
    end = len(body) if length is None else int(length)
    if end > len(body):
        raise ProblemError(400, f"{end} bytes of a body of {len(body)}", field=_HEAD)
    head = parse_body(body[:end])
    if not isinstance(head, dict) or not isinstance(head.get("inputs"), list):
        raise ProblemError(400, "expected a list of tensors", field="inputs")
    return head, _read_tensors(head, body[end:])


def _read_tensors(head: dict[str, Any], rest: bytes) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for place, one in enumerate(head["inputs"]):
        field = f"inputs[{place}]"
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise ProblemError(400, "expected a tensor with a name", field=field)
        if one.get("datatype") != _TYPE:
            detail = f"datatype is {shown(one.get('datatype'))}; expected {_TYPE}"
            raise ProblemError(400, detail, field=field)
        shape = _shape(one.get("shape"), field)
        size = _parameters(one).get("binary_data_size")
        if size is None:
            values = _numbers(one.get("data"), field)
        else:
            if type(size) is not int or not 0 <= size <= len(rest) or size % 4:
                detail = f"binary_data_size is {shown(size)}, of {len(rest)} bytes that are left"
                raise ProblemError(400, detail, field=field)
            values, rest = np.frombuffer(rest[:size], "<f4"), rest[size:]
        if values.size != math.prod(shape):
            raise ProblemError(400, f"{values.size} values for the shape {shape}", field=field)
        tensors[one["name"]] = values.reshape(shape).astype(np.float32, copy=False)
    if rest:
        raise ProblemError(400, f"{len(rest)} bytes more than the tensors take", field="inputs")
    return tensors


def _shape(shape: Any, field: str) -> list[int]:
    if not isinstance(shape, list) or not all(type(n) is int and 0 < n < 1 << 24 for n in shape):
        raise ProblemError(400, f"shape is {shown(shape)}; expected whole numbers", field=field)
    return shape


def _numbers(data: Any, field: str) -> np.ndarray:
    """The numbers of lists in lists, in order."""
    try:
        with np.errstate(over="ignore"):
            values = np.asarray(data)
            if values.dtype.kind not in "fiu":
                raise ValueError(f"they are {values.dtype}")
            return values.astype(np.float32).ravel()
    except (ValueError, TypeError, OverflowError) as error:
        raise ProblemError(400, f"data is no array of numbers ({error})", field=field) from error


def _checked(tensors: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A network's input of that name; ProblemError if it is not there, or is another shape."""
    if name not in tensors:
        raise ProblemError(400, f"the input {name!r} is missing", field="inputs")
    values = tensors[name]
    found, open_shape = list(values.shape), _open_shape(shape)
    fits = len(found) == len(open_shape) and all(
        wanted in (-1, n) for n, wanted in zip(found, open_shape, strict=True)
    )
    # A network takes other sizes than its own, too, within reason.
    within = all(
        n % SIZE_STEP == 0 and n <= 4 * most for n, most in zip(found[2:], shape[1:], strict=False)
    )
    if not fits or not within:
        detail = f"{name} is {found}; expected {open_shape}, sides in steps of {SIZE_STEP}"
        raise ProblemError(400, f"{detail}, at most four times {list(shape[1:])}", field="inputs")
    if not np.isfinite(values).all():
        raise ProblemError(400, f"{name} holds NaN or infinity", field="inputs")
    return values


def _parameters(one: Any) -> dict[str, Any]:
    parameters = one.get("parameters", {})
    return parameters if isinstance(parameters, dict) else {}


def _answer(name: str, head: dict[str, Any], outputs: dict[str, np.ndarray]) -> Response:
    """The outputs that were asked for, or all, as JSON or behind it."""
    binary = _parameters(head).get("binary_data_output") is True
    wanted = head.get("outputs") or [{"name": one} for one in outputs]
    if not isinstance(wanted, list) or not all(isinstance(one, dict) for one in wanted):
        raise ProblemError(400, "expected a list of tensors' names", field="outputs")
    described, behind = [], b""
    for one in wanted:
        values = outputs.get(str(one.get("name")))
        if values is None:
            detail = f"no output {shown(one.get('name'))}; there are {', '.join(outputs)}"
            raise ProblemError(400, detail, field="outputs")
        tensor: dict[str, Any] = {
            "name": one["name"],
            "datatype": _TYPE,
            "shape": list(values.shape),
        }
        if _parameters(one).get("binary_data", binary) is True:
            content = values.astype("<f4").tobytes()
            tensor["parameters"] = {"binary_data_size": len(content)}
            behind += content
        else:
            tensor["data"] = values.ravel().tolist()
        described.append(tensor)
    result: dict[str, Any] = {"model_name": name, "model_version": "1", "outputs": described}
    if isinstance(head.get("id"), str):
        result["id"] = head["id"][:1000]
    if not behind:
        return Json(result)
    start = as_json(result)
    return Response(
        start + behind,
        media_type="application/octet-stream",
        headers={_HEAD: str(len(start))},
    )
