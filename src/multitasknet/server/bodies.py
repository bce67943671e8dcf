"""What a request's body holds: pictures as files of a form, or one picture as the whole body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile as SentFile

from ..images import Picture
from .problems import ProblemError

MOST_IMAGES = 64
# Pillow knows many more, some of which start other programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
# Of one request, in pictures of the most pixels.
_TOGETHER = 4
# Bytes of embeddings: 64 of 1,024 numbers take 1.5 million, and 20 times that in memory.
_MOST_TEXT = 4 << 20
_Number = Annotated[float, Field(ge=-1e6, le=1e6)]


class Form(BaseModel):
    """A form with pictures of one vehicle each."""

    model_config = ConfigDict(extra="forbid")

    images: list[UploadFile] = Field(
        [], max_length=MOST_IMAGES, description="JPEG, PNG, WebP or BMP files"
    )
    embeddings: Json[list[list[_Number]]] = Field(
        [], description="JSON, also as a file: to search for, as predict returns them"
    )


@dataclass(frozen=True, eq=False)
class Sent:
    """What came in a body: pictures, undecoded, and lists of numbers."""

    pictures: list[Picture]
    embeddings: list[list[float]]


async def read_body(request: Request) -> Sent:
    """A request's pictures, checked by their headers; ProblemError."""
    kind = request.headers.get("content-type", "").lower()
    if kind.startswith(("multipart/form-data", "application/x-www-form-urlencoded")):
        async with request.form(max_part_size=_MOST_TEXT) as fields:
            form = await _checked({name: fields.getlist(name) for name in fields})
            pictures = [
                Picture(one.filename or f"image {place}", await one.read())
                for place, one in enumerate(form.images)
            ]
        sent = Sent(pictures, form.embeddings)
    else:
        body = await request.body()
        if body and not kind.startswith("image/"):
            detail = (
                "expected multipart/form-data with files as 'images', or a picture (image/jpeg)"
            )
            raise ProblemError(415, detail, field="content-type")
        sent = Sent([Picture("image", body)] if body else [], [])
    await run_in_threadpool(_check_pictures, sent.pictures, request.app.state.limits.pixels)
    return sent


async def _checked(fields: dict[str, Any]) -> Form:
    for name in fields.keys() - {"images"}:
        *_, value = fields[name]
        if isinstance(value, SentFile):
            if (value.size or 0) > _MOST_TEXT:
                detail = f"{value.size:,} bytes; expected at most {_MOST_TEXT:,}"
                raise ProblemError(413, detail, field=name, file=value.filename)
            value = await value.read()
        fields[name] = value
    try:
        return Form.model_validate(fields)
    except ValidationError as error:
        raise RequestValidationError(
            [one | {"loc": ("body", *one["loc"])} for one in error.errors()]
        ) from error


# FastAPI knows nothing of bodies that it does not read.
BODY_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "content": {
            "multipart/form-data": {"schema": Form.model_json_schema()},
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        }
    }
}
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
