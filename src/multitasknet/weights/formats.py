"""Files of weights: MindSpore's ``.ckpt``, ``.safetensors`` and PyTorch's, from their bytes.

MindSpore's is read without MindSpore, whose import takes seconds. It is a protocol buffer:
``Checkpoint { repeated Value { tag, tensor } }``, where a tensor is ``{ dims, tensor_type,
tensor_content }``; very large ones come in several pieces. Of PyTorch's containers, old and new,
tensors are read, and code is not run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import safetensors
from google.protobuf import descriptor_pb2, message_factory, text_format
from google.protobuf.message import Message

from ..errors import import_extra

_SCHEMA = """
name: "ckpt" package: "ckpt"
message_type { name: "Tensor"
  field { name: "dims" number: 1 label: LABEL_REPEATED type: TYPE_INT64 }
  field { name: "tensor_type" number: 2 label: LABEL_REQUIRED type: TYPE_STRING }
  field { name: "tensor_content" number: 3 label: LABEL_REQUIRED type: TYPE_BYTES } }
message_type { name: "Value"
  field { name: "tag" number: 1 label: LABEL_REQUIRED type: TYPE_STRING }
  field { name: "tensor" number: 2 label: LABEL_REQUIRED type_name: "Tensor" } }
message_type { name: "Checkpoint"
  field { name: "value" number: 1 label: LABEL_REPEATED type_name: "Value" } }
"""
# Their names in lower case are NumPy's.
_TYPES = re.compile(r"U?Int(8|16|32|64)|Float(16|32|64)|Bool")
_CRC_MARK = b"crc_num"
_CRC_SIZE = len(_CRC_MARK) + 10


def read_ckpt(content: bytes) -> dict[str, np.ndarray]:
    """Read all tensors of a file's bytes; text entries are passed over.

    ValueError or protobuf's DecodeError if it is damaged, empty or of another kind.
    """
    if content[-_CRC_SIZE:].startswith(_CRC_MARK):
        content = content[:-_CRC_SIZE]
    entries: dict[str, list[Message]] = {}
    for value in _message_class().FromString(content).value:
        if not isinstance(value.tag, str):  # what protobuf makes of bytes that are no UTF-8
            raise ValueError(f"the name of an entry is no text: {value.tag!r:.100}")
        entries.setdefault(value.tag, []).append(value.tensor)
    if not entries:
        raise ValueError("it holds no entries")
    return {
        name: _array(name, pieces)
        for name, pieces in entries.items()
        if pieces[-1].tensor_type != "str"
    }


def _array(name: str, pieces: list[Message]) -> np.ndarray:
    content = b"".join(piece.tensor_content for piece in pieces)
    kind, dims = pieces[-1].tensor_type, list(pieces[-1].dims)
    # MindSpore writes a scalar's shape as [0].
    shape = [] if dims == [0] else dims
    if kind == "BFloat16":
        values = _from_bfloat16(content)
    elif _TYPES.fullmatch(kind):
        values = np.frombuffer(content, kind.lower())
    else:
        raise ValueError(f"the entry {name!r} has the type {kind!r}")
    if values.size != math.prod(shape):
        raise ValueError(f"the entry {name!r} has {values.size} values for {shape}, or comes twice")
    return values.reshape(shape)


def _from_bfloat16(content: bytes) -> np.ndarray:
    """Values of the upper half of a float32, which NumPy has no type for, as float32."""
    upper_half = np.frombuffer(content, np.uint16).astype(np.uint32)
    return (upper_half << 16).view(np.float32)


@lru_cache(maxsize=1)
def _message_class() -> type[Message]:
    """The message as MindSpore declares it, in a separate pool, where its names are free."""
    schema = text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto())
    # What all protobufs have, from the 3.20 that CANN asks for.
    return message_factory.GetMessages([schema])["ckpt.Checkpoint"]


def read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """Read all tensors of a file's bytes; ValueError for types that no network has."""
    return {name: _safetensor(**tensor) for name, tensor in safetensors.deserialize(content)}


def _safetensor(dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    if dtype == "BF16":
        return _from_bfloat16(data).reshape(shape)
    named = re.fullmatch(r"([FIU])(8|16|32|64)|BOOL", dtype)
    if not named:
        raise ValueError(f"an entry has the type {dtype!r}")
    kind = f"{named[1].lower()}{int(named[2]) // 8}" if named[1] else "bool"
    return np.frombuffer(data, kind).reshape(shape)


def read_torch(content: bytes) -> dict[str, np.ndarray]:
    """Read a file's bytes: the tensors of a state dict, or of one in a training checkpoint.

    ValueError if it would run code, or holds something else than named tensors.
    """
    torch = import_extra("torch", "torch")
    try:
        with torch.serialization.safe_globals(_harmless_numpy()):
            stored = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if not (name := re.search(r"GLOBAL (\S+)", str(error))):
            raise ValueError("torch.save did not write it") from error
        raise ValueError(
            f"it wants to run code ({name[1]}), which is refused: save its state_dict() alone"
        ) from error
    state = stored.get("state_dict", stored) if isinstance(stored, dict) else None
    if not isinstance(state, dict) or not state:
        raise ValueError(f"it holds a {type(stored).__name__}, expected a state dict")
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"its entry {name!r} is a {type(value).__name__}, expected a tensor")
    return {
        str(name): (value.float() if value.is_floating_point() else value).numpy()
        for name, value in state.items()
    }


def write_torch(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a training checkpoint that holds a state dict; MissingExtraError without PyTorch."""
    torch = import_extra("torch", "torch")
    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    torch.save({"state_dict": state}, path)


def _harmless_numpy() -> list[Any]:
    """What an accuracy kept beside the weights as a NumPy scalar needs, as NVlabs' files do."""
    scalar: Any = np.core.multiarray.scalar  # type: ignore[attr-defined]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [np.dtype, type(np.dtype(np.float32)), type(np.dtype(np.float64)), *names]


READERS: dict[str, Callable[[bytes], dict[str, np.ndarray]]] = {
    ".ckpt": read_ckpt,
    ".safetensors": read_safetensors,
    ".pth": read_torch,
    ".pt": read_torch,
    ".tar": read_torch,
}
