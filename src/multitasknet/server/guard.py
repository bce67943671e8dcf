"""What every request passes first: host, token, limits of bytes and time, and headers."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import ProblemError, busy

COOKIE = "multitasknet_token"
PAGES = {"/": "page.html", "/vehicles": "vehicles.html", "/docs": "docs.html"}
# Open without the token: nothing but the pages' own parts and the server's state.
_OPEN = (*PAGES, "/openapi.json", "/readyz")
_OPEN_BELOW = "/static/"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # No page of another site shows the gallery's pictures.
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Limits:
    """What requests may take, and how long.

    In the worst case ``requests * small_body + large_bodies * body`` bytes of bodies are in memory.

    Attributes:
        body: bytes of a body.
        small_body, large_bodies: bodies up to so many bytes are always read; of larger ones so many
            at a time.
        pixels: of one picture; those of one request have four times as many together.
        requests: that are in work or waiting, and connections that may be open.
        head_seconds: for a request's head, from the start of a connection or its last answer.
        body_seconds, stalled_seconds: for a body, and between two pieces of it.
        answer_seconds: that a caller may leave an answer unread.
        drain_seconds: that requests have at the end of the server.
    """

    body: int = 32 << 20
    small_body: int = 1 << 20
    large_bodies: int = 4
    pixels: int = 16_000_000
    requests: int = 256
    head_seconds: float = 10
    body_seconds: float = 60
    stalled_seconds: float = 10
    answer_seconds: float = 30
    drain_seconds: float = 30


class Guard:
    """ASGI middleware.

    Args:
        app: what it guards.
        limits: of requests.
        token: that callers must send, as ``Authorization: Bearer`` or in the page's cookie; None
            for none.
        hosts: names by which it may be called, so that no page of another site can; empty for any.
    """

    def __init__(
        self, app: ASGIApp, *, limits: Limits, token: str | None, hosts: frozenset[str]
    ) -> None:
        self._app, self._limits, self._token, self._hosts = app, limits, token, hosts
        self._large = asyncio.Semaphore(limits.large_bodies)
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_on(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        # The server sends no body for HEAD, whatever the application does.
        scope = {**scope, "method": scope["method"].replace("HEAD", "GET")}
        body = _Body(receive, self._limits, self._large)
        problem = self._refusal(scope)
        self._running += 1
        try:
            app = problem.response() if problem else self._app
            await app(scope, body.receive, send_on)
        except asyncio.CancelledError:
            # The server ends, and this request took longer than it waits for.
            if not has_begun:
                await busy("the server is shutting down").response()(scope, receive, send_on)
        finally:
            self._running -= 1
            body.release()

    def _refusal(self, scope: Scope) -> ProblemError | None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        host = re.sub(r":\d*$", "", headers.get("host", "")).strip("[]").lower()
        if self._hosts and host not in self._hosts:
            return ProblemError(400, f"expected the host {', '.join(sorted(self._hosts))}")
        if length.isdigit() and int(length[:20]) > self._limits.body:
            return _too_large(self._limits)
        if self._running >= self._limits.requests:
            return busy("too many requests are waiting")
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
        self._receive, self._limits, self._large = receive, limits, large
        self._is_large = self._is_whole = False
        self._read = 0
        self._until = time.monotonic() + limits.body_seconds

    async def receive(self) -> Message:
        if self._is_whole:
            return await self._receive()
        detail = "the body was sent too slowly, or not to its end"
        slow = ProblemError(408, detail, headers={"Connection": "close"})
        message = await self._in_time(self._receive(), self._limits.stalled_seconds, slow)
        self._read += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._read > self._limits.body:
            raise _too_large(self._limits)
        if self._read > self._limits.small_body and not self._is_large:
            many = busy("too many large bodies are waiting")
            await self._in_time(self._large.acquire(), self._limits.body_seconds, many)
            self._is_large = True
        return message

    def release(self) -> None:
        """The body is no longer needed."""
        if self._is_large:
            self._large.release()

    async def _in_time(self, what: Awaitable[Any], seconds: float, late: ProblemError) -> Any:
        left = max(self._until - time.monotonic(), 0)
        try:
            return await asyncio.wait_for(what, min(seconds, left))
        except asyncio.TimeoutError as error:
            raise late from error


def _too_large(limits: Limits) -> ProblemError:
    detail = f"the body is too large; expected at most {limits.body:,} bytes"
    return ProblemError(413, detail, headers={"Connection": "close"})


def _token_in(scope: Scope) -> str:
    request = HTTPConnection(scope)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.cookies.get(COOKIE, "")
