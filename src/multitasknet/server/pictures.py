"""What a request's body holds: pictures as files of a form, or one picture as the whole body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated, TypeAlias

import numpy as np
from fastapi import Depends, File, Request, UploadFile
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, Json
from starlette.concurrency import run_in_threadpool

from ..images import Picture, picture_of
from ..vehicle.keypoints import NUM_KEYPOINTS
from .problems import ProblemError

MOST_IMAGES = 64
# Pillow knows many more, some of which start other programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
# Of one request, in pictures of the most pixels.
_TOGETHER = 4

# Places far outside a picture are a mistake, too.
_Number = Annotated[float, Field(ge=-1e6, le=1e6)]
_Pose = Annotated[
    list[tuple[_Number, _Number, _Number]],
    Field(min_length=NUM_KEYPOINTS, max_length=NUM_KEYPOINTS),
]


class Form(BaseModel):
    """A form with pictures of one vehicle each."""

    model_config = ConfigDict(extra="forbid")

    images: list[UploadFile] = Field(
        [], max_length=MOST_IMAGES, description="JPEG, PNG, WebP or BMP files"
    )
    keypoints: Json[list[_Pose | None]] = Field(
        [],
        description="JSON: for each image 36 of [x, y, confidence], x and y in pixels, or null to "
        "estimate them",
    )
    embeddings: Json[list[list[_Number]]] = Field(
        [], description="JSON: embeddings to search for, as predict returns them"
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
    pictures = [
        picture_of(await one.read(), one.filename or f"image {place}")
        for place, one in enumerate(form.images)
    ]
    kind = request.headers.get("content-type", "").lower()
    if not kind.startswith(("multipart/form-data", "application/x-www-form-urlencoded")):
        body = await request.body()
        if body and not kind.startswith("image/"):
            detail = (
                "expected multipart/form-data with files as 'images', or a picture (image/jpeg)"
            )
            raise ProblemError(415, detail, field="content-type")
        pictures = [picture_of(body, "image")] if body else []
    await run_in_threadpool(_check_pictures, pictures, request.app.state.limits.pixels)
    poses = form.keypoints or [None] * len(pictures)
    if len(poses) != len(pictures):
        detail = f"{len(poses)} poses for {len(pictures)} pictures; expected one for each, or null"
        raise ProblemError(400, detail, field="keypoints")
    keypoints = [None if one is None else np.array(one, np.float32) for one in poses]
    return Sent(pictures, keypoints, form.embeddings)


Body: TypeAlias = Annotated[Sent, Depends(read_body)]


def _check_pictures(pictures: Sequence[Picture], most: int) -> None:
    pixels = 0
    for place, one in enumerate(pictures):
        try:
            with Image.open(BytesIO(one.content), formats=_FORMATS) as file:
                width, height = file.size
        except Image.DecompressionBombError as error:
            raise unusable(413, place, one, str(error)) from error
        except Exception as error:  # Pillow has one for every kind of damage
            detail = "not a picture that can be read; expected JPEG, PNG, WebP or BMP"
            raise unusable(400, place, one, detail) from error
        pixels += width * height
        if width * height > most or pixels > _TOGETHER * most:
            detail = (
                f"{width} x {height} pixels; expected at most {most:,} in a picture, and "
                f"{_TOGETHER * most:,} in all pictures of a request"
            )
            raise unusable(413, place, one, detail)


def unusable(status: int, place: int, picture: Picture, detail: str) -> ProblemError:
    return ProblemError(status, detail, field=f"images[{place}]", file=picture.name)
