"""From a request's body to pictures, within limits."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, NaiveDatetime, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from ..errors import ImageError
from ..files import reason_of
from ..images import open_pillow, picture_of
from ..retrieval.gallery import Gallery, GalleryFilter, GalleryRow
from ..vehicle.pose import Pose
from .problems import ProblemError

MOST_IMAGES = 64
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "MPO")
_EXPECTED = "expected JPEG, PNG, WebP or BMP"
_JSON_FIELDS = ("keypoints", "embeddings")
_FORM_PART = 4 << 20
# Each takes a hundred bytes in memory, and one in the body.
_MOST_BRACKETS = 100_000
_LONGEST = 8192
# Numbers and texts that a form gives one by one.
_SINGLE = ("top", "max_distance", "not_before", "not_after")

Point = tuple[float, float, float]
Id = str


class Pictures(BaseModel):
    """Pictures of one vehicle each: sent along, or of the gallery."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    images: list[str] = Field(
        [], max_length=MOST_IMAGES, description="JPEG, PNG, WebP or BMP files in base64"
    )
    names: list[str] | None = Field(
        None, max_length=MOST_IMAGES, description="what to call them in results and errors"
    )
    ids: list[Id] = Field([], max_length=MOST_IMAGES, description="of crops of the gallery")
    keypoints: list[Annotated[list[Point], Field(max_length=64)] | None] | None = Field(
        None,
        max_length=MOST_IMAGES,
        description="36 of x, y (pixels) and confidence for each image, or null to estimate them",
    )


class Search(Pictures):
    """What to search for, and where in the gallery."""

    embeddings: list[Annotated[list[float], Field(max_length=_LONGEST)]] = Field(
        [], max_length=MOST_IMAGES, description="as predict and embed give them"
    )
    top: int = Field(10, ge=1, le=200, description="crops for each")
    max_distance: float | None = Field(None, ge=0, description="squared Euclidean")
    cameras: list[str] = Field([], max_length=10_000)
    colors: list[str] = Field([], max_length=100)
    types: list[str] = Field([], max_length=100)
    not_before: NaiveDatetime | None = None
    not_after: NaiveDatetime | None = None

    @property
    def where(self) -> GalleryFilter | None:
        """The filter; None if it leaves nothing out."""
        where = GalleryFilter(
            tuple(self.cameras),
            tuple(self.colors),
            tuple(self.types),
            self.not_before,
            self.not_after,
        )
        return None if where == GalleryFilter() else where


A = TypeVar("A", bound=Pictures)


@dataclass(frozen=True)
class Upload:
    """A picture's file as it came: its name, its place in the request, and its bytes."""

    name: str
    field: str
    content: bytes


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, uint8 ``[H, W, 3]``, what to call it, and its pose, neutral if none is given."""

    name: str
    pixels: np.ndarray
    pose: Pose


async def read_request(request: Request, kind: type[A]) -> tuple[A, list[Upload]]:
    """What a body asks for, and the files in it; ProblemError."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        return await _read_form(request, kind)
    if content_type != "application/json":
        raise ProblemError(
            415, "expected application/json or multipart/form-data", field="content-type"
        )
    values = await run_in_threadpool(parse_body, await request.body())
    asked = await run_in_threadpool(_checked, kind, values)
    if asked.names is not None and len(asked.names) != len(asked.images):
        raise ProblemError(400, "expected a name for each image", field="names")
    names = asked.names or [f"image {place}" for place in range(len(asked.images))]
    return asked, [
        Upload(name, f"images[{place}]", _from_base64(text, f"images[{place}]", name))
        for place, (name, text) in enumerate(zip(names, asked.images, strict=True))
    ]


def parse_body(body: bytes) -> Any:
    """The JSON in a body; ProblemError."""
    if body.count(b"[") + body.count(b"{") > _MOST_BRACKETS:
        raise ProblemError(413, f"expected at most {_MOST_BRACKETS:,} lists and objects")
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, f"the body is no JSON in UTF-8: {error}") from error


async def _read_form(request: Request, kind: type[A]) -> tuple[A, list[Upload]]:
    values: dict[str, Any] = {}
    uploads: list[Upload] = []
    limits = {"max_files": MOST_IMAGES, "max_fields": 2 * MOST_IMAGES, "max_part_size": _FORM_PART}
    async with request.form(**limits) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                field = f"images[{len(uploads)}]"
                if name != "images":
                    raise ProblemError(400, "expected files as 'images'", field=name)
                shown = value.filename or f"image {len(uploads)}"
                uploads.append(Upload(shown, field, await value.read()))
            elif name in _JSON_FIELDS:
                values[name] = _json_field(name, value)
            elif name in _SINGLE:
                values[name] = value
            else:
                values.setdefault(name, []).append(value)
    if "images" in values:
        raise ProblemError(400, "expected files, each with a name", field="images")
    return _checked(kind, values), uploads


def _json_field(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, str(error), field=name) from error


def _checked(kind: type[A], values: Any) -> A:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ProblemError(400, first["msg"], field=_place(first["loc"])) from error


def _place(location: tuple[int | str, ...]) -> str:
    """Such as ``images[2]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")[:100] or "body"


def _from_base64(text: str, field: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProblemError(400, f"it is no base64 ({error})", field=field, file=name) from error


class Decoder:
    """Decodes pictures in threads, a few requests at a time, whatever they hold.

    Args:
        most_pixels: of one picture, and a quarter of those of one request.
        requests: that are decoded, or whose pictures are in memory, at a time.
    """

    def __init__(self, most_pixels: int, requests: int = 32) -> None:
        self._most_pixels = most_pixels
        self._pool = ThreadPoolExecutor(2)
        self.turn = asyncio.Semaphore(requests)

    async def decode(
        self, asked: Pictures, uploads: Sequence[Upload], gallery: Gallery | None
    ) -> list[Picture]:
        """All pictures of a request, those of the gallery last; ProblemError."""
        uploads = [*uploads, *(_gallery_upload(gallery, id, n) for n, id in enumerate(asked.ids))]
        if not uploads:
            raise ProblemError(400, "expected at least one picture, as 'images' or 'ids'")
        if len(uploads) > MOST_IMAGES:
            raise ProblemError(400, f"{len(uploads)} pictures; expected at most {MOST_IMAGES}")
        poses = _poses(asked, uploads)
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._pool, self._decode, uploads)
        return [
            Picture(one.name, pixels, pose)
            for one, pixels, pose in zip(uploads, await work, poses, strict=True)
        ]

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown()

    def _decode(self, uploads: Sequence[Upload]) -> list[np.ndarray]:
        left = 4 * self._most_pixels
        for one in uploads:
            left -= self._checked_pixels(one)
            if left < 0:
                raise _no_picture(413, one, "the request's pictures are too large together")
        return [_decoded(one) for one in uploads]

    def _checked_pixels(self, one: Upload) -> int:
        try:
            with open_pillow(one.content) as picture:
                kind, (width, height) = picture.format, picture.size
        except (ValueError, Image.DecompressionBombError) as error:
            raise _no_picture(413, one, reason_of(error)) from error
        except Exception as error:  # Pillow has one for every kind of damage
            raise _no_picture(400, one, f"it is no picture; {_EXPECTED}") from error
        if kind not in _FORMATS:
            raise _no_picture(400, one, f"a {kind} file; {_EXPECTED}")
        if width * height > self._most_pixels:
            raise _no_picture(
                413, one, f"{width} x {height} pixels; expected at most {self._most_pixels:,}"
            )
        return width * height


def gallery_row(gallery: Gallery | None, id: str, place: int) -> GalleryRow:
    """The crop of an id, at ``place`` in the request; ProblemError if there is none."""
    if gallery is None:
        raise ProblemError(400, "this server has no gallery", field=f"ids[{place}]")
    try:
        return gallery.row(id)
    except KeyError as error:
        detail = f"{id[:100]!r} is no id of the gallery"
        raise ProblemError(404, detail, field=f"ids[{place}]") from error


def _gallery_upload(gallery: Gallery | None, id: str, place: int) -> Upload:
    """A crop of the gallery as if it had been sent."""
    row = gallery_row(gallery, id, place)
    try:
        return Upload(id, f"ids[{place}]", row.image.read_bytes())
    except OSError as error:
        detail = f"the picture is there no more ({error.strerror})"
        raise ProblemError(410, detail, field=f"ids[{place}]") from error


def _decoded(one: Upload) -> np.ndarray:
    try:
        return picture_of(one.content, one.name).decode()[0]
    except ImageError as error:
        raise _no_picture(400, one, str(error)) from error


def _no_picture(status: int, one: Upload, detail: str) -> ProblemError:
    return ProblemError(status, detail, field=one.field, file=one.name)


def _poses(asked: Pictures, uploads: Sequence[Upload]) -> list[Pose]:
    given = asked.keypoints if asked.keypoints is not None else [None] * len(uploads)
    if len(given) != len(uploads):
        detail = f"{len(given)} poses for {len(uploads)} pictures; expected one for each, or null"
        raise ProblemError(400, detail, field="keypoints")
    poses = []
    for place, (points, upload) in enumerate(zip(given, uploads, strict=True)):
        try:
            poses.append(Pose.of(None if points is None else np.array(points, dtype=np.float32)))
        except ValueError as error:
            field = f"keypoints[{place}]"
            raise ProblemError(400, str(error), field=field, file=upload.name) from error
    return poses
