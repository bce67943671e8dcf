"""What every request passes first: host, token, limits and deadlines, headers, and metrics."""

from __future__ import annotations

import asyncio
import hmac
import time
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .limits import Limits
from .problems import ProblemError, busy

COOKIE = "multitasknet_token"
# Open without the token: nothing but the page's own parts and the server's state.
_OPEN = ("/", "/docs", "/openapi.json", "/healthz", "/readyz")
_OPEN_BELOW = "/static/"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Metrics:
    """What ``/metrics`` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "multitasknet_request_seconds",
            "Time from a request's head to its answer, by route and status.",
            ("route", "status"),
            registry=self.registry,
        )
        self.batches = Histogram(
            "multitasknet_batch_size",
            "Pictures that were run together.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.ready = Gauge(
            "multitasknet_ready", "1 when the weights are loaded.", registry=self.registry
        )


class Guard:
    """ASGI middleware.

    Args:
        app: what it guards.
        metrics: what it counts in.
        limits: of requests.
        token: that callers must send, as ``Authorization: Bearer`` or in the page's cookie.
        hosts: names that a request's Host header may have; empty for any.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        limits: Limits,
        token: str | None,
        hosts: frozenset[str],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._limits = limits
        self._token = token
        self._hosts = hosts
        self._large = asyncio.Semaphore(limits.large_bodies)
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        # The server sends no body for HEAD, whatever the application does.
        inner = {**scope, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        problem = self._refusal(inner)
        body = _Body(receive, self._limits, self._large)
        self._running += 1
        try:
            if problem is None:
                await self._app(inner, body.receive, send_on)
            else:
                await problem.response()(scope, receive, send_on)
        except asyncio.CancelledError:
            # The server ends, and this request took longer than it waits for.
            if not status:
                await busy("the server is shutting down").response()(scope, receive, send_on)
        finally:
            self._running -= 1
            body.release()
            route = getattr(inner.get("route"), "path", "other")
            seconds = self._metrics.seconds.labels(route, status or "none")
            seconds.observe(time.perf_counter() - start)

    def _refusal(self, scope: Scope) -> ProblemError | None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if self._hosts and _host(headers) not in self._hosts:
            return ProblemError(400, f"expected the host {', '.join(sorted(self._hosts))}")
        if length.isdigit() and int(length[:20]) > self._limits.body:
            return self._limits.too_large()
        if self._running >= self._limits.requests:
            return busy("too many requests are waiting; try again in a moment")
        if self._token is None or scope["path"] in _OPEN or scope["path"].startswith(_OPEN_BELOW):
            return None
        if hmac.compare_digest(_token_in(scope).encode(), self._token.encode()):
            return None
        detail = "expected the server's token, as 'Authorization: Bearer TOKEN'"
        return ProblemError(401, detail, headers={"WWW-Authenticate": "Bearer"})


class _Body:
    """A request's body, received within bounds of bytes and time.

    All small bodies together and some large ones fit into memory; further large ones wait.
    """

    def __init__(self, receive: Receive, limits: Limits, large: asyncio.Semaphore) -> None:
        self._receive = receive
        self._limits = limits
        self._large = large
        self._is_large = self._is_whole = False
        self._read = 0
        self._until = time.monotonic() + limits.body_seconds

    async def receive(self) -> Message:
        if self._is_whole:
            return await self._receive()
        stalled = min(self._limits.stalled_seconds, self._left())
        try:
            message = await asyncio.wait_for(self._receive(), stalled)
        except asyncio.TimeoutError as error:
            detail = "the body was sent too slowly, or not to its end"
            raise ProblemError(408, detail, headers={"Connection": "close"}) from error
        self._read += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._read > self._limits.body:
            raise self._limits.too_large()
        if self._read > self._limits.small_body and not self._is_large:
            try:
                await asyncio.wait_for(self._large.acquire(), self._left())
            except asyncio.TimeoutError as error:
                raise busy("too many large bodies are waiting; try again in a moment") from error
            self._is_large = True
        return message

    def release(self) -> None:
        """The body is no longer needed."""
        if self._is_large:
            self._large.release()

    def _left(self) -> float:
        return max(self._until - time.monotonic(), 0)


def _host(headers: Headers) -> str:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _token_in(scope: Scope) -> str:
    request = HTTPConnection(scope)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.cookies.get(COOKIE, "")
