"""The application: the page, the API, and health."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from .. import __version__
from . import api
from .guard import COOKIE, Guard, Limits
from .problems import add_handlers
from .service import Service

_STATIC = Path(__file__).parent / "static"


def create_app(
    service: Service,
    *,
    token: str | None = None,
    limits: Limits = Limits(),  # noqa: B008, it is frozen
    hosts: frozenset[str] = frozenset(),
) -> FastAPI:
    """The application.

    Args:
        service: what answers.
        token: that callers must send; None for none.
        limits: of requests.
        hosts: names by which it may be called, so that no page of another site can; empty for any.
    """
    app = FastAPI(title="multitasknet", version=__version__, docs_url=None, redoc_url=None)
    app.state.service = service
    app.state.limits = limits
    add_handlers(app)
    app.include_router(api.router)
    app.mount("/static", StaticFiles(directory=_STATIC))
    app.add_middleware(Guard, limits=limits, token=token, hosts=hosts)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(_STATIC / "page.html")

    @app.get("/vehicles", include_in_schema=False)
    async def vehicles() -> Response:
        return FileResponse(_STATIC / "vehicles.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(_STATIC / "docs.html")

    @app.get("/readyz")
    @app.get("/healthz", include_in_schema=False)
    async def health() -> Response:
        """Whether the server answers; it does so once the weights are loaded."""
        return JSONResponse({"ready": True})

    @app.post("/api/token")
    async def remember_token() -> Response:
        """Keep the token, which this request was let in with, in a cookie for the page."""
        response = Response(status_code=204)
        if token is not None:
            response.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return response

    return app
