"""The application: the page, the API, health and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Thread
from typing import TypeAlias

import prometheus_client
from fastapi import FastAPI, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from .. import __version__
from . import api
from .guard import Guard, Metrics
from .limits import Limits
from .problems import add_handlers
from .service import Service

# Loads the weights; what it is given is called with the size of each batch.
Opens: TypeAlias = "Callable[[Callable[[int], object]], Service]"

_STATIC = Path(__file__).parent / "static"


def create_app(
    opens: Opens,
    *,
    token: str | None = None,
    limits: Limits | None = None,
    hosts: frozenset[str] = frozenset(),
    on_ready: Callable[[Service], object] = lambda service: None,
    on_failure: Callable[[BaseException], object] = lambda error: None,
) -> FastAPI:
    """The application.

    Args:
        opens: loads the weights, in a thread; requests that need them get 503 until it returns.
        token: that callers must send; None for none.
        limits: of requests.
        hosts: names by which it may be called, so that no page of another site can; empty for any.
        on_ready, on_failure: called at the end of loading.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        def load() -> None:
            try:
                app.state.service = opens(metrics.batches.observe)
                metrics.ready.set(1)
                on_ready(app.state.service)
            except BaseException as error:
                on_failure(error)

        Thread(target=load, daemon=True).start()
        yield
        metrics.ready.set(0)
        if app.state.service is not None:
            app.state.service.close()

    app = FastAPI(
        title="multitasknet", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.state.service = None
    app.state.limits = limits or Limits()
    add_handlers(app)
    app.include_router(api.router)
    app.mount("/static", StaticFiles(directory=_STATIC))

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(_STATIC / "page.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(_STATIC / "docs.html")

    @app.get("/healthz")
    async def healthz(request: Request) -> Response:
        """Whether the server is alive, and whether the weights are loaded."""
        return JSONResponse({"live": True, "ready": request.app.state.service is not None})

    @app.get("/readyz")
    async def readyz(_: api.Loaded) -> Response:
        """200 when the weights are loaded, 503 before."""
        return JSONResponse({"ready": True})

    @app.get("/metrics")
    async def metrics_text() -> Response:
        """For Prometheus."""
        text = prometheus_client.generate_latest(metrics.registry)
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    app.add_middleware(
        Guard, metrics=metrics, limits=app.state.limits, token=token, hosts=frozenset(hosts)
    )
    return app
