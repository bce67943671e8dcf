"""Pictures: finding, reading, resizing, polygons, JPEG. OpenCV does the work, as upstream."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from threading import RLock
from typing import Any, TypeAlias
from weakref import ref

import cv2
import numpy as np
from numpy.typing import ArrayLike
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .errors import ImageError
from .files import reading

logger = logging.getLogger(__name__)

ImageInput: TypeAlias = "str | Path | Image.Image | np.ndarray"
# x1, y1, x2, y2 in pixels of the upright picture; x2 and y2 are not in the box.
Corners: TypeAlias = "tuple[float, float, float, float]"

# By which a file in a folder is a picture.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp"),
    *(".tif", ".tiff", ".gif", ".avif"),
)
_VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".wmv", ".webm", ".ts")

# ImageNet's, which every network of this package was trained with.
RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)
_NORMALIZED = tuple(
    ((np.arange(256) / 255 - mean) / std).astype(np.float32)
    for mean, std in zip(RGB_MEAN, RGB_STD, strict=True)
)

# Pixels of a picture: 200 MB in RGB, of which reading may hold several copies.
MOST_PIXELS = 1 << 26
# Pixels for one of a network's, a side.
_ENOUGH = 4
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_GROUND = (128, 128, 128)
# What a camera of 12 bits gives at most; of a picture that uses 16 bits, the darkest sixteenth.
_TWELVE_BITS = 0xFFF
# EXIF orientations that lie on a side.
_TURNED = (5, 6, 7, 8)
_EXIF_TIME = "%Y:%m:%d %H:%M:%S"
# Whatever keeps a picture from being read, as ImageError; takes the picture's name.
_readable = partial(
    reading,
    error=ImageError,
    problem="the image cannot be read",
    remedy="expected a JPEG, PNG or other picture",
)


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture whose bytes were read once; nothing is decoded until it is asked for.

    Attributes:
        name: its path, or what else to call it in errors and results.
        content: the file's bytes; empty for a picture that was given in memory.
        pixels: the picture in memory, uint8 ``[H, W, 3]``; None for a file.
    """

    name: str
    content: bytes = field(default=b"", repr=False)
    pixels: np.ndarray | None = field(default=None, repr=False)

    @cached_property
    def sha256(self) -> str:
        """Of the file's bytes; of shape and values for a picture in memory."""
        if self.pixels is None:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha256(repr(self.pixels.shape).encode() + self.pixels.tobytes()).hexdigest()

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Height and width of the upright picture, as its header states them; ImageError."""
        if self.pixels is not None:
            return self.pixels.shape[0], self.pixels.shape[1]
        with _readable(self.name), open_pillow(self.content) as file:
            return _upright_size(file)

    @cached_property
    def taken_at(self) -> datetime | None:
        """When it was taken, by its EXIF data in the camera's own time; None if they lack it."""
        try:
            with open_pillow(self.content) as file:
                exif = file.getexif()
                text = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
                return datetime.strptime(str(text or exif[ExifTags.Base.DateTime]), _EXIF_TIME)
        # Pillow has an exception for every kind of damage.
        except Exception:
            return None

    def decode(self, size: tuple[int, int] | None = None) -> tuple[np.ndarray, int]:
        """The pixels, uint8 ``[H, W, 3]`` in RGB order, and what both sides were divided by.

        It is turned by its EXIF orientation, transparency is laid on grey, and 16-bit greys
        are scaled to 8 bits.

        Args:
            size: height and width of a network's input. A JPEG with far more pixels is decoded at
                a half, a quarter or an eighth of its size: in a quarter of the time or less, and
                with at least four pixels left for each of the network's.

        Raises:
            ImageError: it cannot be decoded, or its values have no known scale.
        """
        if self.pixels is not None:
            return self.pixels, 1
        with _readable(self.name), open_pillow(self.content) as file:
            fits = (n for n in (8, 4, 2) if size and min(file.size) // n >= _ENOUGH * max(size))
            divisor = next(fits, 1)
            # OpenCV decodes twice as fast as Pillow.
            decoded = _decode_jpeg(self.content, _REDUCED[divisor])
            if decoded is not None:
                return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), divisor
            return _upright_rgb(file), 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Crop(Picture):
    """What is in a box of a frame, as a picture of its own.

    Attributes:
        frame: what it is cut out of.
        box: in whole pixels of the frame.
    """

    frame: Frame
    box: Corners

    @cached_property
    def sha256(self) -> str:
        """Of the frame's and the box: nothing is decoded for it."""
        found = crop_name(self.frame.picture.sha256, self.box)
        return hashlib.sha256(found.encode()).hexdigest()

    @cached_property
    def shape(self) -> tuple[int, int]:
        x1, y1, x2, y2 = map(int, self.box)
        return y2 - y1, x2 - x1

    @cached_property
    def taken_at(self) -> datetime | None:
        return self.frame.picture.taken_at

    def decode(self, size: tuple[int, int] | None = None) -> tuple[np.ndarray, int]:
        """The pixels and 1: a frame is decoded whole, for all its boxes."""
        (pixels,) = cut(self.frame.pixels, [self.box])
        if pixels.shape[:2] != self.shape:
            height, width = self.frame.pixels.shape[:2]
            raise ImageError(f"{self.name}: the box is not within the frame, {width} x {height}")
        return pixels, 1


class Frame:
    """A picture that crops are cut out of: read once, and decoded once for those in use.

    Any number of threads may share it.
    """

    def __init__(self, image: ImageInput | Picture) -> None:
        self._image = image
        self._lock = RLock()
        self._decoded: Callable[[], np.ndarray | None] = lambda: None

    def __reduce__(self) -> tuple[Any, ...]:
        return Frame, (self.picture,)

    @property
    def picture(self) -> Picture:
        """The whole picture; errors as :func:`open_picture`."""
        with self._lock:
            if not isinstance(self._image, Picture):
                self._image = open_picture(self._image)
            return self._image

    @property
    def pixels(self) -> np.ndarray:
        """uint8 ``[H, W, 3]``, which last as long as someone holds a part of them; ImageError."""
        with self._lock:
            pixels = self._decoded()
            if pixels is None:
                pixels, _ = self.picture.decode()
                self._decoded = ref(pixels)
            return pixels

    def crop(self, box: Corners) -> Crop:
        """What is in a box of whole pixels within the frame, of which nothing is read yet."""
        image = self._image
        name = str(image) if isinstance(image, str | Path) else self.picture.name
        return Crop(crop_name(name, box), frame=self, box=box)


def crop_name(frame: str | Path, box: Corners) -> str:
    """What the part of a frame in a box is called: ``frame.jpg#x,y,width,height``."""
    x1, y1, x2, y2 = (round(value) for value in box)
    return f"{frame}#{x1},{y1},{x2 - x1},{y2 - y1}"


def whole_boxes(boxes: ArrayLike, shape: tuple[int, int]) -> np.ndarray:
    """Boxes ``[N, 4]`` in whole pixels within a picture of that height and width, int64.

    One that lies outside is empty.
    """
    height, width = shape
    rounded = np.round(np.nan_to_num(np.asarray(boxes, np.float64)))
    return rounded.clip(0, [width, height] * 2).astype(np.int64)


def cut(pixels: np.ndarray, boxes: ArrayLike) -> list[np.ndarray]:
    """The parts of a picture in boxes ``[N, 4]``: views, empty for a box outside."""
    corners = whole_boxes(boxes, (pixels.shape[0], pixels.shape[1])).tolist()
    return [pixels[y1 : max(y2, y1), x1 : max(x2, x1)] for x1, y1, x2, y2 in corners]


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of the upright picture in a file, of which only the header is decoded."""
    return open_picture(path).shape


def _upright_size(file: Image.Image) -> tuple[int, int]:
    is_turned = file.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED
    width, height = file.size[::-1] if is_turned else file.size
    return height, width


def open_picture(
    image: ImageInput, *, name: str | None = None, box: Corners | None = None
) -> Picture:
    """Read a picture's bytes, once.

    Args:
        image: a path, a Pillow image or an array, uint8 ``[H, W, 3]`` in RGB order.
        name: what to call it; default is the path.
        box: what to cut out of it, in whole pixels; default is the whole picture.

    Raises:
        ImageError: the file cannot be read, or the array has another dtype or shape.
        TypeError: it is none of these.
    """
    if box is not None:
        return Frame(open_picture(image, name=name)).crop(box)
    if isinstance(image, str | Path):
        name = name or str(image)
        with _readable(name):
            return Picture(name, read_regular(Path(image)))
    if isinstance(image, Image.Image):
        name = name or "the Pillow image"
        with _readable(name):
            _check_pixels(*image.size)
            return Picture(name, pixels=_upright_rgb(image))
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"an image must be a path, a Pillow image or an array, not {type(image).__name__}"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(
            f"the image array is {image.dtype} {list(image.shape)}; "
            f"expected uint8 [H, W, 3] in RGB order"
        )
    return Picture(name or "the image array", pixels=image)


def read_image(image: ImageInput) -> np.ndarray:
    """A picture's pixels, uint8 ``[H, W, 3]`` in RGB order; errors as :func:`open_picture`."""
    return open_picture(image).decode()[0]


def find_images(folder: str | Path) -> list[Path]:
    """All pictures in a folder and below, sorted by path.

    Links are followed, to each folder once. Hidden files and folders (``._x.jpg``,
    ``.ipynb_checkpoints``) and those that machines make (``@eaDir``, ``__MACOSX``) are passed over;
    how many pictures these are is logged.

    Raises:
        ImageError: there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder}: there is no such folder; give a folder of vehicle crops")
    images: list[Path] = []
    hidden: list[Path] = []
    for path in sorted(_files_in(folder)):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            parts = path.relative_to(folder).parts
            is_hidden = any(one.startswith((".", "@")) or one == "__MACOSX" for one in parts)
            (hidden if is_hidden else images).append(path)
    if hidden:
        logger.warning(
            "%s: %d hidden pictures passed over, such as %s", folder, len(hidden), hidden[0]
        )
    if not images:
        raise ImageError(f"{folder}: no picture found (a name in {', '.join(IMAGE_SUFFIXES)})")
    return images


def _files_in(folder: Path) -> Iterator[Path]:
    def left_out(error: OSError) -> None:
        logger.warning("%s is left out: %s", error.filename, error.strerror)

    seen = set()
    for place, folders, names in os.walk(folder, onerror=left_out, followlinks=True):
        # A link may lead back to where it is.
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(place, name) for name in names)


def read_regular(path: Path) -> bytes:
    """A file's bytes; OSError for a folder, a pipe or a device, whose bytes might not end."""
    if not path.is_file():
        raise OSError("it is no regular file" if path.exists() else "no such file")
    if path.suffix.lower() in _VIDEO_SUFFIXES:
        raise OSError("it is a video; save its frames as pictures, and crop the vehicles")
    return path.read_bytes()


def open_pillow(content: bytes) -> Image.Image:
    """A picture of which no pixel is decoded yet; ValueError if it has too many of them."""
    try:
        file = Image.open(BytesIO(content))
    except UnidentifiedImageError:  # which names an object in memory
        raise ValueError("no format of pictures that is known") from None
    if file.format == "EPS":  # which Pillow has Ghostscript run
        raise ValueError("it is PostScript, which is a program; save it as JPEG or PNG")
    _check_pixels(*file.size)
    return file


def decode_gray(content: bytes) -> np.ndarray | None:
    """The JPEG in a file's bytes, uint8 ``[H, W]``; None if there is none."""
    return _decode_jpeg(content, cv2.IMREAD_GRAYSCALE)


def _decode_jpeg(content: bytes, flag: int) -> np.ndarray | None:
    """A JPEG by OpenCV; None for any other file, and for one that was cut off, which it pads."""
    if not (content.startswith(b"\xff\xd8") and content.endswith(b"\xff\xd9")):
        return None
    return cv2.imdecode(np.frombuffer(content, np.uint8), flag)


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
    # OpenCV computes in 32 bits with 16 of them after the point.
    reachable = np.clip(corners, -(2**14), 2**14).astype(np.int32)
    cv2.fillPoly(canvas, [reachable], (255,))
    return canvas


def encode_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """A picture, uint8 ``[H, W, 3]`` RGB or ``[H, W]``, as the bytes of a JPEG file."""
    ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    _, content = cv2.imencode(".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return content.tobytes()


def _check_pixels(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"it has {width} x {height} pixels; expected at most {MOST_PIXELS / 1e6:.0f} million"
        )


def _upright_rgb(image: Image.Image) -> np.ndarray:
    is_deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    # Both conversions copy; most images need neither.
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("what white is in it is unknown; save it with 8 or 16 bits a channel")
        _check_depth(int(values.max()))
        scaled = (values.astype(np.uint32) * 255 // 0xFFFF).astype(np.uint8)
        return np.repeat(scaled[..., None], 3, axis=2)
    if image.mode != "RGB" and image.has_transparency_data:
        ground = Image.new("RGBA", image.size, _GROUND)
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    pixels = np.asarray(image.convert("RGB") if image.mode != "RGB" else image)
    if is_deep:  # of which Pillow keeps the upper 8 bits
        _check_depth(int(pixels.max()) << 8 | 0xFF)
    return pixels


def _check_depth(largest: int) -> None:
    """ValueError for 16-bit values that are of fewer bits: they would come out black."""
    if largest <= _TWELVE_BITS:
        raise ValueError(
            f"its 16-bit values reach {largest} of 65535; save it with 8 bits a channel, or scale "
            f"the values to 16 bits"
        )


def write_planes(pixels: np.ndarray, planes: np.ndarray) -> None:
    """Write a picture's colours, uint8 ``[H, W, 3]``, normalised into float32 ``[3, H, W]``."""
    for color, channel in enumerate(cv2.split(pixels)):
        cv2.LUT(channel, _NORMALIZED[color], dst=planes[color])
