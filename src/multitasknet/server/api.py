"""``/api``: prediction, comparison and search over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, NaiveDatetime
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response

from ..gallery.gallery import Gallery
from ..gallery.rows import GalleryFilter, GalleryRow
from ..images import Picture, picture_of
from ..inference.predictor import Prediction
from ..ranking.distances import check_embeddings
from ..vehicle.keypoints import SKELETON, SURFACES
from .guard import COOKIE
from .pictures import MOST_IMAGES, Body, Sent
from .problems import ProblemError, busy
from .service import Service, prediction_as_json

router = APIRouter()
_NAMED = 30
_KINDS = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".bmp": "image/bmp",
    ".webp": "image/webp",
}
# FastAPI knows of the form alone.
_PICTURE = {
    "requestBody": {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
}


class Crops(BaseModel):
    """Crops of the gallery, beside the pictures in the body."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    ids: list[str] = Field([], max_length=MOST_IMAGES, description="of crops of the gallery")


class Search(Crops):
    """Where to search in the gallery."""

    top: int = Field(10, ge=1, le=200, description="crops for each query")
    max_distance: float | None = Field(None, ge=0, description="squared Euclidean")
    cameras: list[str] = Field([], max_length=1000, description="of any of these")
    colors: list[str] = Field([], max_length=100, description="of any of these")
    types: list[str] = Field([], max_length=100, description="of any of these")
    not_before: NaiveDatetime | None = Field(None, description="2026-06-01T08:00, no zone")
    not_after: NaiveDatetime | None = Field(None, description="as not_before")


def _service(request: Request) -> Service:
    service: Service | None = request.app.state.service
    if service is None:
        raise busy("the weights are being loaded; try again in a moment")
    return service


Loaded: TypeAlias = Annotated[Service, Depends(_service)]


def _gallery(service: Loaded) -> Gallery:
    if service.gallery is None:
        raise ProblemError(404, "this server has no gallery; start it with --gallery")
    return service.gallery


Searched: TypeAlias = Annotated[Gallery, Depends(_gallery)]


@router.post("/api/predict", openapi_extra=_PICTURE)
async def predict(service: Loaded, sent: Body, crops: Annotated[Crops, Query()]) -> Response:
    """Colour, type, pose and embedding of each picture, then of each crop of the gallery."""
    pictures = await run_in_threadpool(_with_crops, service, sent, crops.ids)
    found = await service.predict(pictures)
    return JSONResponse({"predictions": list(map(prediction_as_json, found))})


@router.post("/api/compare", openapi_extra=_PICTURE)
async def compare(service: Loaded, sent: Body, crops: Annotated[Crops, Query()]) -> Response:
    """The distance of two pictures, and how probable one vehicle is if that was measured."""
    both = await run_in_threadpool(_with_crops, service, sent, crops.ids)
    if len(both.pictures) != 2:
        raise ProblemError(400, f"{len(both.pictures)} pictures; expected two", field="images")
    return JSONResponse(service.compare(*await service.predict(both)))


@router.post("/api/search", openapi_extra=_PICTURE)
async def search(
    service: Loaded, gallery: Searched, sent: Body, asked: Annotated[Search, Query()]
) -> Response:
    """The nearest crops of the gallery to each picture, id and embedding, in that order.

    A crop of the gallery does not find itself.
    """
    if not 0 < len(sent.pictures) + len(asked.ids) + len(sent.embeddings) <= MOST_IMAGES:
        detail = f"expected 1 to {MOST_IMAGES} pictures, ids and embeddings together"
        raise ProblemError(400, detail, field="images")
    predictions = await service.predict(sent)
    # In a thread, since a large gallery takes a while.
    return JSONResponse(await run_in_threadpool(_found, service, gallery, sent, asked, predictions))


def _found(
    service: Service,
    gallery: Gallery,
    sent: Sent,
    asked: Search,
    predictions: Sequence[Prediction],
) -> dict[str, Any]:
    rows = [_row(service, id, place) for place, id in enumerate(asked.ids)]
    queries: list[tuple[str, str | None, np.ndarray]] = [
        (one.source, None, one.embedding) for one in predictions
    ]
    queries += [
        (id, row.id, gallery.embedding(row.id)) for id, row in zip(asked.ids, rows, strict=True)
    ]
    for place, values in enumerate(sent.embeddings):
        embedding = _embedding(values, service.width, f"embeddings[{place}]")
        queries.append((f"embedding {place}", None, embedding))
    names, owns, embeddings = zip(*queries, strict=True)
    found = gallery.search(
        np.stack(embeddings),
        top=asked.top + 1,
        where=_filter(service, gallery, asked),
        max_distance=asked.max_distance,
    )
    results = []
    for name, own, hits in zip(names, owns, found, strict=True):
        others = [hit for hit in hits if hit.row.id != own][: asked.top]
        matches = [
            {"rank": rank, **service.row_as_json(hit.row), **service.distance_as_json(hit.distance)}
            for rank, hit in enumerate(others, 1)
        ]
        results.append({"query": name, "matches": matches})
    return {"results": results}


@router.get("/api/gallery")
def gallery(service: Loaded) -> Response:
    """The size of the gallery, what to filter by, and a few crops; and how to draw a pose."""
    calibration, crops = service.calibration, service.gallery
    about: dict[str, Any] = {
        "random": not service.predictor.engine.source,
        "calibration": calibration
        and {
            "distances": calibration.distances,
            "probabilities": calibration.probability(calibration.distances).tolist(),
            "measured_on": calibration.measured_on,
            "prior": calibration.prior,
        },
        "skeleton": SKELETON,
        "surfaces": SURFACES,
        "images": 0,
    }
    if crops is not None:
        facets = crops.facets
        about |= {
            "images": len(crops),
            "cameras": facets.cameras,
            "colors": facets.colors,
            "types": facets.types,
            "examples": list(map(service.row_as_json, service.examples())),
        }
    return JSONResponse(about)


@router.get("/gallery/{id:path}")
def gallery_picture(service: Loaded, id: str) -> Response:
    """A crop of the gallery, by its id."""
    row = _row(service, id)
    if not row.image.is_file():
        raise ProblemError(404, "the crop's file is no longer there", field="id")
    kind = _KINDS.get(row.image.suffix.lower(), "application/octet-stream")
    headers = {"Cache-Control": "private, max-age=600"}
    return FileResponse(row.image, media_type=kind, headers=headers)


@router.post("/api/token")
async def remember_token(request: Request) -> Response:
    """Keep the token of this request in a cookie, for a browser's pictures."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    response = Response(status_code=204)
    if scheme.lower() == "bearer":
        response.set_cookie(COOKIE, token.strip(), httponly=True, samesite="strict")
    return response


def _row(service: Service, id: str, place: int | None = None) -> GalleryRow:
    """The crop of an id that a caller sent; ProblemError."""
    field = "id" if place is None else f"ids[{place}]"
    if service.gallery is None:
        raise ProblemError(404, "this server has no gallery; start it with --gallery", field=field)
    try:
        return service.gallery.row(service.crops.own(id))
    except KeyError as error:
        raise ProblemError(404, f"{id[:100]!r} is no id of the gallery", field=field) from error


def _with_crops(service: Service, sent: Sent, ids: Sequence[str]) -> Sent:
    """The pictures that were sent, and those of crops of the gallery."""
    crops = [_picture_of_crop(service, id, place) for place, id in enumerate(ids)]
    pictures = sent.pictures + crops
    if sent.embeddings:
        raise ProblemError(400, "expected pictures", field="embeddings")
    if not 0 < len(pictures) <= MOST_IMAGES:
        detail = f"{len(pictures)} pictures; expected 1 to {MOST_IMAGES}, as 'images' or 'ids'"
        raise ProblemError(400, detail, field="images")
    return Sent(pictures, sent.keypoints + [None] * len(crops), [])


def _picture_of_crop(service: Service, id: str, place: int) -> Picture:
    row = _row(service, id, place)
    try:
        return picture_of(row.image.read_bytes(), id)
    except OSError as error:
        detail = f"the crop's file cannot be read ({error.strerror})"
        raise ProblemError(410, detail, field=f"ids[{place}]") from error


def _filter(service: Service, gallery: Gallery, asked: Search) -> GalleryFilter | None:
    facets, spec = gallery.facets, service.predictor.spec
    colors, types = (spec.color_names, spec.type_names) if spec.has_attributes else ((), ())
    where = GalleryFilter(
        _chosen("cameras", asked.cameras, facets.cameras),
        _chosen("colors", asked.colors, facets.colors, colors),
        _chosen("types", asked.types, facets.types, types),
        asked.not_before,
        asked.not_after,
    )
    return None if where == GalleryFilter() else where


def _chosen(
    field: str, asked: Sequence[str], known: Sequence[str], possible: Sequence[str] = ()
) -> tuple[str, ...]:
    """Values in the gallery's spelling; ProblemError that lists what it has.

    ``possible`` values are right as well, although no crop has them yet.
    """
    spelled = {one.casefold(): one for one in (*possible, *known)}
    for place, value in enumerate(asked):
        if value.strip().casefold() not in spelled:
            it_has = ", ".join(known[:_NAMED]) + (", ..." if len(known) > _NAMED else "")
            detail = f"the gallery has no {field[:-1]} {value[:100]!r}; it has {it_has or 'none'}"
            raise ProblemError(400, detail, field=f"{field}[{place}]")
    return tuple(spelled[value.strip().casefold()] for value in asked)


def _embedding(values: Sequence[float], width: int, field: str) -> np.ndarray:
    if len(values) != width:
        raise ProblemError(400, f"{len(values)} numbers; expected {width}", field=field)
    with np.errstate(over="ignore"):
        return check_embeddings(field, np.array([values], dtype=np.float32))[0]
