"""What a request's body holds: pictures as files of a form, or one picture as the whole body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated, Any, TypeAlias

import numpy as np
from fastapi import Depends, File, Request, UploadFile
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from ..images import Picture, picture_of
from ..vehicle.keypoints import NUM_KEYPOINTS
from .problems import ProblemError

MOST_IMAGES = 64
# Pillow knows many more, some of which start other programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_EXPECTED = "expected JPEG, PNG, WebP or BMP"
# Of one request, in pictures of the most pixels.
_TOGETHER = 4

# Places far outside a picture are a mistake, too.
_Number = Annotated[float, Field(ge=-1e6, le=1e6)]
_Pose = Annotated[
    list[tuple[_Number, _Number, _Number]],
    Field(min_length=NUM_KEYPOINTS, max_length=NUM_KEYPOINTS),
]
_POSES = TypeAdapter(list[_Pose | None])
_EMBEDDINGS = TypeAdapter(list[list[float]])


class Form(BaseModel):
    """A form with pictures of one vehicle each."""

    model_config = ConfigDict(extra="forbid")

    images: list[UploadFile] = Field(
        [], max_length=MOST_IMAGES, description="JPEG, PNG, WebP or BMP files"
    )
    keypoints: str | None = Field(
        None,
        description="JSON: for each image 36 of [x, y, confidence], x and y in pixels, or null to "
        "estimate them",
    )
    embeddings: str | None = Field(
        None, description="JSON: embeddings to search for, as predict returns them"
    )


@dataclass(frozen=True, eq=False)
class Sent:
    """What came in a body.

    Attributes:
        pictures: undecoded.
        keypoints: for each picture float32 ``[36, 3]``, or None to estimate them.
        embeddings: lists of numbers.
    """

    pictures: list[Picture]
    keypoints: list[np.ndarray | None]
    embeddings: list[list[float]]


async def read_body(request: Request, form: Annotated[Form, File()]) -> Sent:
    """A request's pictures, checked by their headers; ProblemError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _FORMS:
        names = [one.filename or f"image {place}" for place, one in enumerate(form.images)]
        files = [await one.read() for one in form.images]
    else:
        body = await request.body()
        if body and not kind.startswith("image/"):
            detail = (
                "expected multipart/form-data with files as 'images', or a picture (image/jpeg)"
            )
            raise ProblemError(415, detail, field="content-type")
        names, files = (["image"], [body]) if body else ([], [])
    pictures = list(map(picture_of, files, names))
    await run_in_threadpool(_check_pictures, pictures, request.app.state.limits.pixels)
    keypoints = _parsed(_POSES, form.keypoints, "keypoints")
    return Sent(
        pictures, _poses(keypoints, names), _parsed(_EMBEDDINGS, form.embeddings, "embeddings")
    )


Body: TypeAlias = Annotated[Sent, Depends(read_body)]


def _check_pictures(pictures: Sequence[Picture], most: int) -> None:
    left = _TOGETHER * most
    for place, one in enumerate(pictures):
        try:
            with Image.open(BytesIO(one.content), formats=_FORMATS) as file:
                width, height = file.size
        except Image.DecompressionBombError as error:
            raise unusable(413, place, one, str(error)) from error
        except Exception as error:  # Pillow has one for every kind of damage
            raise unusable(
                400, place, one, f"not a picture that can be read; {_EXPECTED}"
            ) from error
        if width * height > most:
            detail = f"{width} x {height} pixels; expected at most {most:,} in a picture"
            raise unusable(413, place, one, detail)
        left -= width * height
        if left < 0:
            detail = f"expected at most {_TOGETHER * most:,} pixels in all pictures of a request"
            raise unusable(413, place, one, detail)


def unusable(status: int, place: int, picture: Picture, detail: str) -> ProblemError:
    return ProblemError(status, detail, field=f"images[{place}]", file=picture.name)


def _parsed(kind: TypeAdapter[list[Any]], text: str | None, field: str) -> list[Any]:
    if text is None:
        return []
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        raise ProblemError.of(error, field) from error


def _poses(given: Sequence[Any], names: Sequence[str]) -> list[np.ndarray | None]:
    if not given:
        return [None] * len(names)
    if len(given) != len(names):
        detail = f"{len(given)} poses for {len(names)} pictures; expected one for each, or null"
        raise ProblemError(400, detail, field="keypoints")
    return [None if one is None else np.array(one, dtype=np.float32) for one in given]
