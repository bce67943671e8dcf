"""What stands before every request: limits, the token, headers, and the count of it all."""

from __future__ import annotations

import asyncio
import hmac
import time
from http.cookies import CookieError, SimpleCookie

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import ProblemError

COOKIE = "multitasknet_token"
# Without the token there is nothing to be seen there but the page's own parts.
_OPEN = ("/", "/docs", "/openapi.json", "/healthz", "/v2/health/live", "/v2/health/ready")
_OPEN_BELOW = "/static/"
# Seconds that a body may take.
_BODY_SECONDS = 60
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
        self.requests = Counter(
            "multitasknet_requests_total",
            "Requests by route and status.",
            ("route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "multitasknet_request_seconds",
            "Time from a request's head to its answer.",
            ("route",),
            registry=self.registry,
        )
        self.batches = Histogram(
            "multitasknet_batch_size",
            "Items that were run together.",
            ("batcher",),
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
        most_bytes: of a body.
        token: that callers must show, as ``Authorization: Bearer`` or the page's cookie.
    """

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, most_bytes: int, token: str | None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._most_bytes = most_bytes
        self._token = token

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

        problem = self._refusal(scope)
        try:
            if problem is None:
                await self._app(scope, self._limited(receive), send_on)
            else:
                await problem.response()(scope, receive, send_on)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, status or "none").inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - start)

    def _refusal(self, scope: Scope) -> ProblemError | None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length.isdigit() and int(length[:20]) > self._most_bytes:
            return self._too_large()
        if self._token is None or self._is_open(scope["path"]):
            return None
        if hmac.compare_digest(_shown_token(headers).encode(), self._token.encode()):
            return None
        detail = "expected the server's token, as 'Authorization: Bearer TOKEN'"
        return ProblemError(401, detail, headers={"WWW-Authenticate": "Bearer"})

    @staticmethod
    def _is_open(path: str) -> bool:
        return path in _OPEN or path.startswith(_OPEN_BELOW)

    def _limited(self, receive: Receive) -> Receive:
        read, whole = 0, False
        until = time.monotonic() + _BODY_SECONDS

        async def receive_on() -> Message:
            nonlocal read, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0))
            except asyncio.TimeoutError as error:
                detail = f"the body took more than {_BODY_SECONDS} seconds"
                raise ProblemError(408, detail, headers={"Connection": "close"}) from error
            read += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if read > self._most_bytes:
                raise self._too_large()
            return message

        return receive_on

    def _too_large(self) -> ProblemError:
        detail = f"the body is too large; expected at most {self._most_bytes:,} bytes"
        return ProblemError(413, detail, headers={"Connection": "close"})


def _shown_token(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if cookie is None else cookie.value
