"""Pictures: reading, resizing, polygons, JPEG. OpenCV does the work, as it did upstream."""

from __future__ import annotations

import struct
from contextlib import AbstractContextManager
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from .errors import MultiTaskNetError
from .files import reading

ImageInput: TypeAlias = "str | Path | Image.Image | np.ndarray"

# ImageNet's, which every network of this package was trained with.
RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)

# Pixels of a picture: 200 MB in RGB, of which reading may hold several copies.
MOST_PIXELS = 1 << 26
# Pixels for one of a network's, a side.
_ENOUGH = 4
_REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_GROUND = (128, 128, 128)
_EXIF_TIME = "%Y:%m:%d %H:%M:%S"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# Markers of frame headers: all from SOF0 to SOF15 but for tables and extensions.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class ImageError(MultiTaskNetError, ValueError):
    """An image that cannot be read or has the wrong shape."""


def read_reduced(image: ImageInput, size: tuple[int, int]) -> tuple[np.ndarray, int]:
    """:func:`read_image` for a network that takes this height and width, and the divisor.

    A JPEG file that has far more pixels than that is decoded at a half, a quarter or an eighth of
    its size: in a quarter of the time or less, and with at least four pixels left for one. The
    divisor of all others is 1.
    """
    if not isinstance(image, str | Path):
        return read_image(image), 1
    with _readable(str(image)):
        content = read_regular(Path(image))
        divisor = _divisor(content, _ENOUGH * max(size))
        decoded = _decode_jpeg(content, _REDUCED[divisor]) if divisor > 1 else None
        if decoded is None:
            return _decode_rgb(content), 1
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), divisor


def _divisor(content: bytes, least: int) -> int:
    """What a JPEG's sides can be divided by so that the shorter one keeps that many pixels."""
    size = _jpeg_size(content) if _is_whole_jpeg(content) else None
    return next((one for one in (8, 4, 2) if size and min(size) // one >= least), 1)


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
        with _readable("the Pillow image"):
            _check_pixels(*image.size)
            return _upright_rgb(image)
    if not isinstance(image, str | Path):
        raise TypeError(
            f"an image must be a path, a Pillow image or an array, not {type(image).__name__}"
        )
    with _readable(str(image)):
        return _decode_rgb(read_regular(Path(image)))


def read_regular(path: Path) -> bytes:
    """A file's bytes; OSError for a folder, a pipe or a device, whose bytes might not end."""
    if not path.is_file():
        raise OSError("it is no regular file" if path.exists() else "no such file")
    return path.read_bytes()


def _readable(name: str) -> AbstractContextManager[None]:
    """Whatever keeps a picture from being read, as ImageError."""
    remedy = "expected a JPEG, PNG or other picture"
    return reading(name, ImageError, "the image cannot be read", remedy)


def open_picture(source: Path | BytesIO) -> Image.Image:
    """A picture of which no pixel is decoded yet; ValueError if it has too many of them."""
    picture = Image.open(source)
    _check_pixels(*picture.size)
    return picture


def taken_at(path: Path) -> datetime | None:
    """When a picture was taken, as its EXIF data say in the camera's own time; None if they don't.

    A file that is no picture says nothing either.
    """
    try:
        with open_picture(path) as picture:
            exif = picture.getexif()
            text = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
            return datetime.strptime(str(text or exif[ExifTags.Base.DateTime]), _EXIF_TIME)
    # Pillow has an exception for every kind of damage.
    except Exception:
        return None


def decode_image(content: bytes) -> np.ndarray:
    """The picture in a file's bytes, uint8 ``[H, W, 3]``; ImageError if there is none."""
    with _readable("the picture"):
        return _decode_rgb(content)


def _decode_rgb(content: bytes) -> np.ndarray:
    decoded = _decode_jpeg(content, cv2.IMREAD_COLOR)
    if decoded is not None:
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    with open_picture(BytesIO(content)) as file:
        return _upright_rgb(file)


def decode_gray(content: bytes) -> np.ndarray:
    """The picture in a file's bytes, uint8 ``[H, W]``; any exception if there is none."""
    decoded = _decode_jpeg(content, cv2.IMREAD_GRAYSCALE)
    if decoded is not None:
        return decoded
    with open_picture(BytesIO(content)) as file:
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
    # OpenCV decodes twice as fast.
    if not _is_whole_jpeg(content):
        return None
    size = _jpeg_size(content)
    if size is None:
        return None
    _check_pixels(*size)
    return cv2.imdecode(np.frombuffer(content, np.uint8), flags)


def _is_whole_jpeg(content: bytes) -> bool:
    """Whether it is none that was cut off, which OpenCV would pad with grey and say nothing."""
    return content.startswith(_JPEG_START) and content.endswith(_JPEG_END)


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG's frame header states; None if it is not where it should be."""
    place = len(_JPEG_START)
    while place + 9 <= len(content) and content[place] == 0xFF:
        if content[place + 1] in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", content, place + 5)
            return width, height
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return None


def _check_pixels(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"it has {width} x {height} pixels, {width * height / 1e6:.0f} million; expected at "
            f"most {MOST_PIXELS / 1e6:.0f} million"
        )


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
        raise ValueError(
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
