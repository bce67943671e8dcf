"""The application, and running it."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import prometheus_client
import uvicorn
from fastapi import FastAPI, Request
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from .. import __version__
from ..errors import MultiTaskNetError
from . import api, open_inference
from .guard import Guard, Metrics
from .problems import Json, add_handlers
from .requests import Decoder
from .service import OnBatch, Service

logger = logging.getLogger(__name__)

Opens = Callable[[OnBatch], Service]

_STATIC = Path(__file__).parent / "static"
_LOOPBACK = ("127.0.0.1", "localhost")
# Connections at a time, and seconds that those at the end have for what is running.
_CONNECTIONS = 256
_DRAIN_SECONDS = 30


class ServeError(MultiTaskNetError, ValueError):
    """A server that cannot be started; says why."""


@dataclass(frozen=True)
class Limits:
    """What a request may take.

    Attributes:
        body: bytes.
        pixels: of one picture.
    """

    body: int = 32 << 20
    pixels: int = 16_000_000


def create_app(
    opens: Opens,
    *,
    token: str | None = None,
    limits: Limits | None = None,
    hosts: tuple[str, ...] = (),
    on_ready: Callable[[Service], object] = lambda service: None,
    on_failure: Callable[[BaseException], object] = lambda error: None,
) -> FastAPI:
    """The application: the page, ``/api``, the Open Inference Protocol, health and metrics.

    Args:
        opens: loads the weights, in a thread; until then all that needs them answers 503.
        token: that callers must show; None for none.
        limits: of requests.
        hosts: names that it may be called by, which a page of another site cannot feign; empty for
            any.
        on_ready, on_failure: told how loading went.
    """
    limits = limits or Limits()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        def load() -> None:
            try:
                app.state.service = opens(lambda name: metrics.batches.labels(name).observe)
            except BaseException as error:
                on_failure(error)
                return
            metrics.ready.set(1)
            on_ready(app.state.service)

        app.state.decoder = Decoder(limits.pixels)
        loading = Thread(target=load, daemon=True)
        loading.start()
        yield
        metrics.ready.set(0)
        app.state.decoder.close()
        if app.state.service is not None:
            app.state.service.close()

    app = FastAPI(
        title="multitasknet", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.state.service = None
    add_handlers(app)
    app.include_router(api.router)
    app.include_router(open_inference.router)
    app.mount("/static", StaticFiles(directory=_STATIC))

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(_STATIC / "page.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(_STATIC / "docs.html")

    @app.get("/healthz")
    async def healthz(request: Request) -> Response:
        """That the server lives, and whether the weights are loaded."""
        return Json({"live": True, "ready": request.app.state.service is not None})

    @app.get("/metrics")
    async def metrics_text() -> Response:
        """For Prometheus."""
        text = prometheus_client.generate_latest(metrics.registry)
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    if hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_middleware(Guard, metrics=metrics, most_bytes=limits.body, token=token)
    return app


def serve(
    opens: Opens,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | Path | None = None,
    limits: Limits | None = None,
    on_ready: Callable[[Service, str], object] = lambda service, url: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is running.

    Args:
        opens: as for :func:`create_app`.
        host, port: to listen on.
        token_file: whose first line callers must show.
        on_ready: told the service and the page's address when the weights are loaded.

    Raises:
        ServeError: the address cannot be had, or the token cannot be read.
        MultiTaskNetError: what ``opens`` raises.
    """
    token = None if token_file is None else _read_token(Path(token_file))
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    shown = f"[{host}]" if ":" in host else host
    app = create_app(
        opens,
        token=token,
        limits=limits,
        hosts=_LOOPBACK if host in _LOOPBACK else (),
        on_ready=lambda service: on_ready(service, f"http://{shown}:{port}/"),
        on_failure=fail,
    )
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signal again when all is done, which would end the process by it.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        server.run()
    except SystemExit as error:
        raise ServeError(
            f"{host}:{port} cannot be listened on; is it in use? Choose another --port"
        ) from error
    finally:
        signal.signal(signal.SIGTERM, before)
    if failures:
        raise failures[0]


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").split("\n", 1)[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"{path}: the token cannot be read ({error})") from error
    if not (len(token) >= 8 and token.isascii() and token.isprintable() and " " not in token):
        raise ServeError(f"{path}: expected 8 or more letters, digits or signs in the first line")
    return token
