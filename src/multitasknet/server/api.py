"""``/api``: what the package's functions do, over HTTP."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from ..inference.predictor import Predictor
from ..ranking.distances import check_embeddings
from ..retrieval.gallery import Gallery, GalleryFilter
from ..vehicle.keypoints import SKELETON, SURFACES
from .guard import COOKIE
from .problems import Json, ProblemError, busy
from .requests import MOST_IMAGES, Decoder, Pictures, Search, gallery_row, read_request
from .service import Said, Service, row_as_json

router = APIRouter()
_EXAMPLES = 14
_KINDS = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".bmp": "image/bmp",
    ".webp": "image/webp",
}


def service_of(request: Request) -> Service:
    """What answers; a ProblemError while the weights are being loaded."""
    service: Service | None = request.app.state.service
    if service is None:
        raise busy("the weights are being loaded; try again in a moment")
    return service


def _body(kind: type[Pictures], example: dict[str, Any]) -> dict[str, Any]:
    """The request's body for ``/docs``; the page puts ids of the gallery into the example."""
    schema = kind.model_json_schema()
    fields = dict(schema["properties"])
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form = schema | {"properties": fields | {"images": files}}
    content = {
        "application/json": {"schema": schema, "example": example},
        "multipart/form-data": {"schema": form},
    }
    return {"requestBody": {"required": True, "content": content}}


async def _said(request: Request, kind: type[Pictures]) -> list[Said]:
    """What the network says of a request's pictures."""
    service, decoder = service_of(request), _decoder(request)
    asked, uploads = await read_request(request, kind)
    async with decoder.turn:
        return await service.predict(await decoder.decode(asked, uploads, service.gallery))


def _decoder(request: Request) -> Decoder:
    decoder: Decoder = request.app.state.decoder
    return decoder


@router.post("/api/predict", openapi_extra=_body(Pictures, {"ids": ["0"]}))
async def predict(request: Request) -> Response:
    """Colour, type, pose and embedding of each picture."""
    return Json({"predictions": [one.as_json() for one in await _said(request, Pictures)]})


@router.post("/api/embed", openapi_extra=_body(Pictures, {"ids": ["0"]}))
async def embed(request: Request) -> Response:
    """The embedding of each picture: compare them by squared Euclidean distance."""
    said = [one.prediction for one in await _said(request, Pictures)]
    images, embeddings = [one.source for one in said], [one.embedding.tolist() for one in said]
    return Json({"images": images, "embeddings": embeddings})


@router.post("/api/pose", openapi_extra=_body(Pictures, {"ids": ["0"]}))
async def pose(request: Request) -> Response:
    """The 36 keypoints of each picture's vehicle: x, y (pixels) and confidence."""
    service, decoder = service_of(request), _decoder(request)
    if service.predictor.pose_estimator is None:
        raise ProblemError(404, "this server runs without a pose network; start it with --pose")
    asked, uploads = await read_request(request, Pictures)
    async with decoder.turn:
        pictures = await decoder.decode(asked, uploads, service.gallery)
        poses = await service.estimate(pictures)
    return Json(
        {
            "poses": [
                {"image": one.name, "origin": found.origin, **found.as_json()}
                for one, found in zip(pictures, poses, strict=True)
            ]
        }
    )


@router.post("/api/compare", openapi_extra=_body(Pictures, {"ids": ["0", "1"]}))
async def compare(request: Request) -> Response:
    """The distance of two pictures, and how likely they show one vehicle (null: not calibrated)."""
    said = await _said(request, Pictures)
    if len(said) != 2:
        raise ProblemError(400, f"{len(said)} pictures; expected two", field="images")
    return Json(service_of(request).compare(*said))


@router.post("/api/search", openapi_extra=_body(Search, {"ids": ["0"], "top": 5}))
async def search(request: Request) -> Response:
    """The nearest crops of the gallery to each picture, id or embedding, in that order.

    A crop of the gallery does not find itself.
    """
    service, decoder = service_of(request), _decoder(request)
    gallery = service.gallery
    if gallery is None:
        raise ProblemError(404, "this server has no gallery; start it with --gallery")
    asked, uploads = await read_request(request, Search)
    if not 0 < len(uploads) + len(asked.ids) + len(asked.embeddings) <= MOST_IMAGES:
        detail = f"expected 1 to {MOST_IMAGES} pictures, ids and embeddings together"
        raise ProblemError(400, detail, field="images")
    names, rows = [one.name for one in uploads], []
    if uploads:
        async with decoder.turn:
            plain = asked.model_copy(update={"ids": []})
            pictures = await decoder.decode(plain, uploads, gallery)
            rows += [one.prediction.embedding for one in await service.predict(pictures)]
    for place, id in enumerate(asked.ids):
        names.append(gallery_row(gallery, id, place).id)
        rows.append(gallery.embedding(id))
    for place, values in enumerate(asked.embeddings):
        names.append(f"embedding {place}")
        rows.append(_embedding(service.predictor, values, f"embeddings[{place}]"))
    itself = [None] * len(uploads) + asked.ids + [None] * len(asked.embeddings)
    # A large gallery takes a while, in which others are answered.
    found = await run_in_threadpool(
        gallery.nearest,
        np.stack(rows),
        top=asked.top + 1,
        where=asked.where,
        max_distance=asked.max_distance,
    )
    return Json(
        {
            "results": [
                {
                    "query": name,
                    "matches": [service.match(hit) for hit in hits if hit.row.id != own][
                        : asked.top
                    ],
                }
                for name, own, hits in zip(names, itself, found, strict=True)
            ]
        }
    )


def _embedding(predictor: Predictor, values: list[float], field: str) -> np.ndarray:
    width = _width(predictor)
    if len(values) != width:
        raise ProblemError(400, f"{len(values)} values; expected {width}", field=field)
    with np.errstate(over="ignore"):
        return check_embeddings(field, np.array([values], dtype=np.float32))[0]


def _width(predictor: Predictor) -> int:
    return int(predictor.spec.output_shapes(predictor.size)["embedding"][0])


@router.get("/api/gallery")
async def gallery(request: Request) -> Response:
    """What there is: the gallery's size and what to filter by, a few crops, the networks."""
    service = service_of(request)
    predictor, crops = service.predictor, service.gallery
    calibration = service.calibration
    about: dict[str, Any] = {
        "networks": list(service.runners),
        "random": not predictor.engine.source,
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
            "examples": await run_in_threadpool(_examples, crops, _width(predictor)),
        }
    return Json(about)


def _examples(crops: Gallery, width: int) -> list[dict[str, Any]]:
    """A few crops to begin with, of several colours where these are known."""
    colors = crops.facets.colors[:_EXAMPLES]
    filters = [GalleryFilter(colors=(color,)) for color in colors] or [GalleryFilter()]
    anywhere = np.zeros((1, width), dtype=np.float32)
    each = -(-_EXAMPLES // len(filters))
    some = [crops.nearest(anywhere, top=each, where=where)[0] for where in filters]
    return [row_as_json(hit.row) for hits in some for hit in hits][:_EXAMPLES]


@router.get("/gallery/{id:path}")
async def gallery_picture(request: Request, id: str) -> Response:
    """A crop of the gallery, by its id."""
    crops = service_of(request).gallery
    try:
        row = None if crops is None else crops.row(id)
    except KeyError:
        row = None
    if row is None or not row.image.is_file():
        raise ProblemError(404, "there is no crop of that id", field="id")
    kind = _KINDS.get(row.image.suffix.lower(), "application/octet-stream")
    headers = {"Cache-Control": "private, max-age=600"}
    return FileResponse(row.image, media_type=kind, headers=headers)


@router.post("/api/token")
async def remember_token(request: Request) -> Response:
    """Keep the token that was shown in a cookie, for a browser's pictures."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    response = Response(status_code=204)
    if scheme.lower() == "bearer":
        response.set_cookie(COOKIE, token.strip(), httponly=True, samesite="strict")
    return response
