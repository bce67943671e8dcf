"""MindSpore's ``.ckpt`` container, read without MindSpore, whose import takes seconds.

The container is a protocol buffer: ``Checkpoint { repeated Value { tag, tensor } }``, where a
tensor is ``{ dims, tensor_type, tensor_content }``; very large ones stand in several pieces.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_TYPES = {
    "Int8": np.int8,
    "UInt8": np.uint8,
    "Int16": np.int16,
    "UInt16": np.uint16,
    "Int32": np.int32,
    "UInt32": np.uint32,
    "Int64": np.int64,
    "UInt64": np.uint64,
    "Float16": np.float16,
    "Float32": np.float32,
    "Float64": np.float64,
    "Bool": np.bool_,
}
_CRC_MARK = b"crc_num"
_CRC_SIZE = len(_CRC_MARK) + 10


def read_ckpt(path: Path) -> dict[str, np.ndarray]:
    """Read all tensors of a file; text entries are passed over.

    Raises:
        ValueError: the file is damaged, empty or of another kind.
        google.protobuf.message.DecodeError: as above.
    """
    content = path.read_bytes()
    if content[-_CRC_SIZE:].startswith(_CRC_MARK):
        content = content[:-_CRC_SIZE]
    checkpoint = _message_class().FromString(content)
    pieces: dict[str, list[bytes]] = {}
    tensors = {}
    for value in checkpoint.value:
        tensors[value.tag] = value.tensor
        pieces.setdefault(value.tag, []).append(value.tensor.tensor_content)
    if not tensors:
        raise ValueError("it holds no entries")
    return {
        name: _array(tensor, b"".join(pieces[name]))
        for name, tensor in tensors.items()
        if tensor.tensor_type != "str"
    }


def _array(tensor: Message, content: bytes) -> np.ndarray:
    # MindSpore writes a scalar's shape as [0].
    shape = () if list(tensor.dims) == [0] else tuple(tensor.dims)
    if tensor.tensor_type == "BFloat16":
        upper_half = np.frombuffer(content, np.uint16).astype(np.uint32)
        return (upper_half << 16).view(np.float32).reshape(shape)
    if tensor.tensor_type not in _TYPES:
        raise ValueError(f"an entry has the type {tensor.tensor_type!r}")
    return np.frombuffer(content, _TYPES[tensor.tensor_type]).reshape(shape)


@lru_cache(maxsize=1)
def _message_class() -> type[Message]:
    """The message as MindSpore declares it, in a pool of its own: names may be taken otherwise."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="ckpt", package="ckpt")
    declarations: dict[str, list[tuple[str, Any, Any, str | None]]] = {
        "Tensor": [
            ("dims", field.LABEL_REPEATED, field.TYPE_INT64, None),
            ("tensor_type", field.LABEL_REQUIRED, field.TYPE_STRING, None),
            ("tensor_content", field.LABEL_REQUIRED, field.TYPE_BYTES, None),
        ],
        "Value": [
            ("tag", field.LABEL_REQUIRED, field.TYPE_STRING, None),
            ("tensor", field.LABEL_REQUIRED, field.TYPE_MESSAGE, ".ckpt.Tensor"),
        ],
        "Checkpoint": [("value", field.LABEL_REPEATED, field.TYPE_MESSAGE, ".ckpt.Value")],
    }
    for message, fields in declarations.items():
        declared = file.message_type.add(name=message)
        for number, (name, label, kind, type_name) in enumerate(fields, start=1):
            declared.field.add(
                name=name, number=number, label=label, type=kind, type_name=type_name
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ckpt.Checkpoint"))
