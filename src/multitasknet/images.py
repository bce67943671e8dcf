"""Pictures: reading, resizing, polygons, JPEG. OpenCV does the work, as it did upstream."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from .errors import MultiTaskNetError

ImageInput: TypeAlias = "str | Path | Image.Image | np.ndarray"

# ImageNet's, which every network of this package was trained with.
RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)

# What Pillow raises for files that are no picture, damaged or too large.
UNREADABLE = (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError)
_GROUND = (128, 128, 128)
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


class ImageError(MultiTaskNetError, ValueError):
    """An image that cannot be read or has the wrong shape."""


def read_image(image: ImageInput) -> np.ndarray:
    """Return uint8 ``[H, W, 3]`` in RGB order.

    A file or Pillow image is turned as its EXIF orientation says; 16-bit grey is brought to 8 bits,
    and what is transparent is laid on grey.

    Raises:
        ImageError: the image cannot be read, or its values have no common scale.
        TypeError: ``image`` is neither path, Pillow image nor array.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ImageError(
                f"the image array is {image.dtype} {list(image.shape)}; "
                f"expected uint8 [H, W, 3] in RGB order"
            )
        return image
    if isinstance(image, Image.Image):
        return _upright_rgb(image)
    if not isinstance(image, str | Path):
        raise TypeError(
            f"an image must be a path, a Pillow image or an array, not {type(image).__name__}"
        )
    path = Path(image)
    try:
        if not path.is_file():
            raise OSError("no such file" if not path.exists() else "it is no regular file")
        return decode_image(path.read_bytes())
    except UNREADABLE as error:
        raise ImageError(
            f"{image}: the image cannot be read ({error}); expected a JPEG, PNG or other picture"
        ) from error


def decode_image(content: bytes) -> np.ndarray:
    """The picture in a file's bytes, uint8 ``[H, W, 3]``; one of UNREADABLE if there is none."""
    decoded = _decode_jpeg(content, cv2.IMREAD_COLOR)
    if decoded is not None:
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    with Image.open(io.BytesIO(content)) as file:
        return _upright_rgb(file)


def decode_gray(content: bytes) -> np.ndarray:
    """The picture in a file's bytes, uint8 ``[H, W]``; errors as above."""
    decoded = _decode_jpeg(content, cv2.IMREAD_GRAYSCALE)
    if decoded is not None:
        return decoded
    with Image.open(io.BytesIO(content)) as file:
        return np.asarray(file.convert("L"))


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear resize without antialiasing, half-pixel centres (OpenCV's INTER_LINEAR).

    Args:
        pixels: uint8 ``[H, W]`` or ``[H, W, 3]``.
        size: new height and width.

    Returns:
        uint8 of that size, rounded.
    """
    return cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def fill_polygon(corners: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """A polygon of 255 on black, uint8 ``[height, width]``; corners are whole pixels (x, y)."""
    canvas = np.zeros((height, width), dtype=np.uint8)
    # OpenCV computes in 32 bits with 16 of them behind the point.
    reachable = np.clip(corners, -(2**14), 2**14).astype(np.int32)
    cv2.fillPoly(canvas, [reachable], (255,))
    return canvas


def encode_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """A picture, uint8 ``[H, W, 3]`` RGB or ``[H, W]``, as the bytes of a JPEG file."""
    ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    _, content = cv2.imencode(".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return content.tobytes()


def _decode_jpeg(content: bytes, flags: int) -> np.ndarray | None:
    # OpenCV decodes twice as fast, but would pad a cut file with grey and say nothing.
    if not (content.startswith(_JPEG_START) and content.endswith(_JPEG_END)):
        return None
    return cv2.imdecode(np.frombuffer(content, np.uint8), flags)


def _upright_rgb(image: Image.Image) -> np.ndarray:
    # Both conversions copy; most images need neither.
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return np.asarray(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return np.repeat(_eight_bits(image)[..., None], 3, axis=2)
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, _GROUND)
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def _eight_bits(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise ImageError(
            f"its pixels are {values.dtype}, {values.min():g} to {values.max():g}: "
            f"what is white is not stated; save it with 8 or 16 bits a channel"
        )
    return (values.astype(np.uint32) * 255 // 0xFFFF).astype(np.uint8)


def write_planes(pixels: np.ndarray, planes: np.ndarray, tables: np.ndarray) -> None:
    """Write a picture's colours, uint8 ``[H, W, 3]``, as planes ``[3, H, W]``.

    Into float32 planes through ``tables``, ``[256, 3]``, a look-up that writes into place; into
    uint8 planes as they are.
    """
    for color, channel in enumerate(cv2.split(pixels)):
        if planes.dtype == np.uint8:
            planes[color] = channel
        else:
            cv2.LUT(channel, tables[:, color].copy(), dst=planes[color])
