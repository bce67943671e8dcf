"""MindSpore's ``.ckpt`` container, read without MindSpore, whose import takes seconds.

The container is a protocol buffer: ``Checkpoint { repeated Value { tag, tensor } }``, where a
tensor is ``{ dims, tensor_type, tensor_content }``; very large ones come in several pieces.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from google.protobuf import descriptor_pb2, message_factory, text_format
from google.protobuf.message import Message

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
_INTEGERS = ("Int8", "UInt8", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64")
_TYPES = (*_INTEGERS, "Float16", "Float32", "Float64", "Bool")
_CRC_MARK = b"crc_num"
_CRC_SIZE = len(_CRC_MARK) + 10


def read_ckpt(content: bytes) -> dict[str, np.ndarray]:
    """Read all tensors of a file's bytes; text entries are passed over.

    Raises:
        ValueError: the file is damaged, empty or of another kind.
        google.protobuf.message.DecodeError: as above.
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
        name: _array(pieces) for name, pieces in entries.items() if pieces[-1].tensor_type != "str"
    }


def _array(pieces: list[Message]) -> np.ndarray:
    content = b"".join(piece.tensor_content for piece in pieces)
    kind, dims = pieces[-1].tensor_type, list(pieces[-1].dims)
    # MindSpore writes a scalar's shape as [0].
    shape = [] if dims == [0] else dims
    if kind == "BFloat16":
        return from_bfloat16(content).reshape(shape)
    if kind not in _TYPES:
        raise ValueError(f"an entry has the type {kind!r}")
    return np.frombuffer(content, kind.lower()).reshape(shape)


def from_bfloat16(content: bytes) -> np.ndarray:
    """Values of the upper half of a float32, which NumPy has no type for, as float32."""
    upper_half = np.frombuffer(content, np.uint16).astype(np.uint32)
    return (upper_half << 16).view(np.float32)


@lru_cache(maxsize=1)
def _message_class() -> type[Message]:
    """The message as MindSpore declares it, in a separate pool, where its names are free."""
    schema = text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto())
    # What all protobufs have, from the 3.20 that CANN asks for.
    return message_factory.GetMessages([schema])["ckpt.Checkpoint"]
