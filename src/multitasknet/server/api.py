"""The application: what it answers under ``/api``, pictures of the gallery, pages, health."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field, NaiveDatetime
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from .. import __version__
from ..errors import GalleryError, ImageError
from ..gallery import journeys
from ..gallery.comparing import compared
from ..gallery.gallery import Gallery
from ..gallery.rows import Facets, GalleryRow, all_of, any_of, meaning
from ..images import Picture, encode_jpeg, open_picture
from ..inference.agreement import agreement_as_json, hide_shared
from ..inference.predictor import Prediction
from ..vehicle.keypoints import SKELETON, SURFACES, visible_surfaces
from ..vehicle.quality import LEAST_QUALITY
from .bodies import BODY_SCHEMA, MOST_IMAGES, Body, Sent
from .guard import COOKIE, PAGES, Guard, Limits
from .problems import ProblemError, add_handlers
from .service import Service

router = APIRouter()
_STATIC = Path(__file__).parent / "static"
_KEPT = {"Cache-Control": "private, max-age=600"}
_QUALITY = 90  # of a JPEG
# What browsers show; the rest is sent as JPEG.
_KINDS = {f".{one}": f"image/{one}" for one in ("jpeg", "png", "webp", "gif", "bmp", "avif")}
_KINDS |= {".jpg": "image/jpeg"}
_EXAMPLES = 14
_MOST = 10**9


def create_app(
    service: Service,
    *,
    token: str | None = None,
    limits: Limits = Limits(),  # noqa: B008, it is frozen
    hosts: frozenset[str] = frozenset(),
) -> FastAPI:
    """The application: answers of a service, behind a :class:`.Guard` with the other arguments."""
    app = FastAPI(title="multitasknet", version=__version__, docs_url=None, redoc_url=None)
    app.state.service, app.state.limits, app.state.token = service, limits, token
    add_handlers(app)
    app.include_router(router)
    for place, name in PAGES.items():
        app.add_route(place, _page(name), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=_STATIC))
    app.add_middleware(Guard, limits=limits, token=token, hosts=hosts)
    return app


def _page(name: str) -> Callable[[Request], Response]:
    return lambda _: FileResponse(_STATIC / name)


class Asked(BaseModel):
    """The options of a request."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Crops(Asked):
    """Crops of the gallery, beside the pictures in the body."""

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


class Vehicles(Asked):
    """Which of the gallery's vehicles."""

    top: int = Field(20, ge=1, le=100, description="vehicles, those that most cameras saw first")
    skip: int = Field(0, ge=0, le=_MOST, description="vehicles to leave out at the start")
    cameras: list[str] = Field([], max_length=1000, description="that one of these saw")
    vehicle: int | None = Field(None, ge=0, le=_MOST, description="its number alone")
    alone: bool = Field(False, description="crops that no vehicle has, instead")


class Pinned(Asked):
    """What one vehicle has."""

    ids: list[str] = Field(min_length=1, max_length=10_000, description="of crops of the gallery")


def _service(request: Request) -> Any:
    return request.app.state.service


Served: TypeAlias = Annotated[Service, Depends(_service)]


def _gallery(service: Served) -> Gallery:
    if service.gallery is None:
        raise ProblemError(404, "this server has no gallery; start it with --gallery")
    service.check_gallery(service.gallery)
    return service.gallery


Searched: TypeAlias = Annotated[Gallery, Depends(_gallery)]


def _with_crops(service: Served, sent: Body, crops: Annotated[Crops, Query()]) -> list[Picture]:
    """The pictures that were sent, and those of crops of the gallery."""
    if sent.embeddings:
        raise ProblemError(400, "expected pictures", field="embeddings")
    if not 0 < len(sent.pictures) + len(crops.ids) <= MOST_IMAGES:
        detail = f"expected 1 to {MOST_IMAGES} pictures, as 'images' or 'ids'"
        raise ProblemError(400, detail, field="images")
    pictures = list(sent.pictures)
    for place, id in enumerate(crops.ids):
        row = _row(service, id, f"ids[{place}]")
        try:
            picture = open_picture(row.image, name=id, box=row.box)
        except ImageError as error:
            raise ProblemError(410, str(error), field=f"ids[{place}]") from error
        pictures.append(replace(picture, name=id))
    return pictures


Pictures: TypeAlias = Annotated[list[Picture], Depends(_with_crops)]


@router.post("/api/predict", openapi_extra=BODY_SCHEMA)
async def predict(service: Served, pictures: Pictures) -> Response:
    """Colour, type, pose and embedding of each picture, then of each crop of the gallery."""
    found = await service.predict(pictures)
    return JSONResponse({"predictions": list(map(_prediction_as_json, found))})


@router.post("/api/compare", openapi_extra=BODY_SCHEMA)
async def compare(service: Served, both: Pictures) -> Response:
    """The distance of two pictures, and what it means in the server's gallery.

    And what each surface of the vehicle contributes.
    """
    if len(both) != 2:
        raise ProblemError(400, f"{len(both)} pictures; expected two", field="images")
    first, second = await service.predict(both)
    poses = first.pose, second.pose
    async with service.decoding:
        hidden = await run_in_threadpool(hide_shared, both, poses, service.predictor.size)
    shown = np.array([one.embedding for one in await service.predict(*hidden)])
    gallery = None if service.gallery is None else await run_in_threadpool(_gallery, service)
    found = await run_in_threadpool(compared, service.predictor, first, second, shown, gallery)
    return JSONResponse(
        {"measured_on": service.measured_on}
        | meaning(found.distance, found.rate, found.probability)
        | {"first": _prediction_as_json(first), "second": _prediction_as_json(second)}
        | agreement_as_json(found.parts)
    )


@router.post("/api/search", openapi_extra=BODY_SCHEMA)
async def search(
    service: Served,
    gallery: Searched,
    sent: Body,
    asked: Annotated[Search, Query()],
) -> Response:
    """The nearest crops of the gallery to each picture, id and embedding, in that order.

    A crop of the gallery does not find itself.
    """
    if not 0 < len(sent.pictures) + len(asked.ids) + len(sent.embeddings) <= MOST_IMAGES:
        detail = f"expected 1 to {MOST_IMAGES} pictures, ids and embeddings together"
        raise ProblemError(400, detail, field="images")
    found = await service.predict(sent.pictures)
    # In a thread, since a large gallery takes a while.
    return JSONResponse(await run_in_threadpool(_search, service, gallery, sent, asked, found))


def _search(
    service: Service, gallery: Gallery, sent: Sent, asked: Search, predictions: Sequence[Prediction]
) -> dict[str, Any]:
    # Of each its answer's head, id in the gallery and embedding.
    queries: list[tuple[dict[str, Any], str, np.ndarray]] = [
        ({"query": one.source, "quality": one.quality, "reason": one.reason}, "", one.embedding)
        for one in predictions
    ]
    for place, id in enumerate(asked.ids):
        with _known(id, f"ids[{place}]"):
            row = gallery.row(service.crops.own(id))
            embedding = gallery.embedding(row.id)
        is_low = row.quality is not None and row.quality < LEAST_QUALITY
        # A gallery keeps no reasons.
        quality = {"quality": row.quality, "reason": "low quality" if is_low else None}
        queries.append(({"query": id, **quality}, row.id, embedding))
    for place, values in enumerate(sent.embeddings):
        if len(values) != gallery.width:
            detail = f"{len(values)} numbers; expected {gallery.width}"
            raise ProblemError(400, detail, field=f"embeddings[{place}]")
        queries.append(({"query": f"embedding {place}"}, "", np.array(values, dtype=np.float32)))
    # Colours and types that no crop has are no mistake.
    facets = Facets(gallery.facets.cameras, gallery.color_names, gallery.type_names)
    chosen = asked.model_dump(include={"cameras", "colors", "types", "not_before", "not_after"})
    found = gallery.search(
        np.stack([embedding for _, _, embedding in queries]),
        top=asked.top + 1,
        where=facets.where(**chosen),
        max_distance=asked.max_distance,
        calibration=service.predictor.calibration,
    )
    results = []
    for (head, own, _), hits in zip(queries, found, strict=True):
        others = [hit for hit in hits if hit.row.id != own][: asked.top]
        if head.get("reason"):
            others = [hit.alone for hit in others]
        matches = [
            {"rank": rank, **service.row_as_json(hit.row), **hit.meaning}
            for rank, hit in enumerate(others, 1)
        ]
        results.append({**head, "matches": matches})
    return {"results": results, "measured_on": service.measured_on}


@router.get("/api/vehicles")
def vehicles(
    service: Served,
    gallery: Searched,
    asked: Annotated[Vehicles, Query()],
) -> Response:
    """The vehicles that were linked, with their crops in the order of time."""
    chosen = [gallery.facets.where(cameras=asked.cameras)]
    chosen += [None if asked.vehicle is None else f"vehicle = {asked.vehicle}"]
    page = slice(asked.skip, asked.skip + asked.top)
    found: list[tuple[GalleryRow, ...]]
    if asked.alone:
        where = all_of([journeys.ALONE, *chosen]) or journeys.ALONE
        total = gallery.count(where)
        found = [(row,) for row in islice(gallery.select(where), page.start, page.stop)]
    else:
        numbers = journeys.vehicles(gallery, all_of(chosen))
        total = len(numbers)
        found = [one.rows for one in journeys.journeys(gallery, numbers[page])]
    listed = [
        {"vehicle": rows[0].vehicle, "crops": [service.row_as_json(row) for row in rows]}
        for rows in found
    ]
    return JSONResponse({"total": total, "vehicles": listed})


@router.post("/api/vehicles")
def pin_vehicle(
    service: Served,
    gallery: Searched,
    asked: Pinned,
    # A page of another site cannot send it unasked.
    content_type: Annotated[str, Header(pattern="^application/json", include_in_schema=False)],
) -> Response:
    """Say that crops show one vehicle, and no other crop of the vehicles they had does.

    So vehicles are split and merged, which `gallery link` keeps. Answers with its number.
    """
    try:
        ids = [service.crops.own(id) for id in asked.ids]
        return JSONResponse({"vehicle": journeys.pin(gallery, ids)})
    except (KeyError, GalleryError) as error:  # which may name a place on this machine
        detail = "a crop is not in the gallery, or no longer; load the page again"
        raise ProblemError(404, detail, field="ids") from error


@router.get("/api/gallery")
def gallery(service: Served) -> Response:
    """The gallery's size, what to filter by, how its rates were measured; how to draw a pose."""
    calibration, crops = service.predictor.calibration, service.gallery
    about: dict[str, Any] = {
        "random": not service.predictor.engine.source,
        "calibration": calibration
        and {"measured_on": calibration.measured_on, "about": calibration.origin},
        "skeleton": SKELETON,
        "surfaces": SURFACES,
        "images": 0,
    }
    if crops is not None:
        about |= asdict(crops.facets)
        rates = crops.rates
        about |= {"rates": {"pairs": rates.pairs, "about": rates.about}}
        about |= {"images": len(crops), "examples": _examples(service, crops)}
    return JSONResponse(about)


def _examples(service: Service, gallery: Gallery) -> list[dict[str, Any]]:
    """A few crops to begin with, of several colours where these are known."""
    colors = gallery.facets.colors[:_EXAMPLES]
    each = -(-_EXAMPLES // max(len(colors), 1))
    found = [islice(gallery.select(any_of("color", [one])), each) for one in colors]
    rows = chain(*found) if colors else islice(gallery.select("true"), each)
    return [service.row_as_json(row) for row in islice(rows, _EXAMPLES)]


@router.get("/gallery/{id:path}")
async def gallery_picture(service: Served, id: str, frame: bool = False) -> Response:
    """A crop of the gallery, by its id, or with ``frame`` the whole picture that it is of."""
    row = await run_in_threadpool(_row, service, id, "id")
    whole, kind = row.box is None or frame, _KINDS.get(row.image.suffix.lower())
    if whole and kind and row.image.is_file():
        return FileResponse(row.image, headers=_KEPT, media_type=kind)
    async with service.decoding:
        content = await run_in_threadpool(_as_jpeg, row, whole)
    return Response(content, media_type="image/jpeg", headers=_KEPT)


def _as_jpeg(row: GalleryRow, whole: bool) -> bytes:
    try:
        pixels, _ = (open_picture(row.image) if whole else row.picture).decode()
    except ImageError as error:
        detail = "the crop's picture cannot be read, or is another one now"
        raise ProblemError(410, detail, field="id") from error
    return encode_jpeg(pixels, _QUALITY)


@router.get("/readyz")
async def ready() -> Response:
    """Whether the server answers; it does so once the weights are loaded."""
    return JSONResponse({"ready": True})


@router.post("/api/token")
async def remember_token(request: Request) -> Response:
    """Keep the token, which this request was let in with, in a cookie for the page."""
    response = Response(status_code=204)
    if request.app.state.token is not None:
        response.set_cookie(COOKIE, request.app.state.token, httponly=True, samesite="strict")
    return response


def _prediction_as_json(prediction: Prediction) -> dict[str, Any]:
    """As ``predict --json`` prints it, with the picture's size and the surfaces that are seen."""
    found = prediction.as_json()
    found["pose"]["surfaces"] = visible_surfaces(prediction.pose.keypoints)
    return found | {"width": prediction.width, "height": prediction.height}


def _row(service: Service, id: str, field: str) -> GalleryRow:
    """The crop of an id that a caller sent; ProblemError."""
    with _known(id, field):
        return _gallery(service).row(service.crops.own(id))


@contextmanager
def _known(id: str, field: str) -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise ProblemError(404, f"{id[:100]!r} is no id of the gallery", field=field) from error
