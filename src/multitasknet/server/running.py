"""Running the application: address, token, connections with deadlines, and the end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import MultiTaskNetError
from .app import Opens, create_app
from .limits import Limits
from .service import Service

logger = logging.getLogger(__name__)


def serve(
    opens: Opens,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: Path | None = None,
    on_ready: Callable[[Service, str], object] = lambda service, url: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests that are running.

    Args:
        opens: as for :func:`create_app`.
        host, port: to listen on; port 0 is any free one.
        token_file: its first line is the token that callers must send.
        on_ready: called with the service and the page's address when the weights are loaded.

    Raises:
        MultiTaskNetError: the address is not free, the token cannot be read, or ``opens`` failed.
    """
    token = None if token_file is None else _read_token(token_file)
    listening = listen(host, port)
    is_local = _is_loopback(host)
    if token is None and not is_local:
        logger.warning(
            "anyone who reaches %s can use this server and see its gallery; set --token-file", host
        )
    url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(
        opens,
        token=token,
        hosts=frozenset({"localhost", "127.0.0.1", "::1", host.lower()} if is_local else ()),
        on_ready=lambda service: on_ready(service, url),
        on_failure=fail,
    )
    server = make_server(app)
    server.run(sockets=[listening])
    if failures:
        raise failures[0]


def make_server(app: FastAPI) -> uvicorn.Server:
    """A server of the application, with the deadlines of its limits."""
    limits: Limits = app.state.limits
    protocol = type("Connection", (_Connection,), {"limits": limits})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=cast("int", limits.drain_seconds),
    )
    return uvicorn.Server(config)


class _Connection(H11Protocol):
    """A connection that is closed when its caller is silent, slow, or in the way of others."""

    limits: Limits

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Of names, the time at which the connection is closed.
        self._deadlines: dict[str, asyncio.TimerHandle] = {}

    @property
    def is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def waits_for_caller(self) -> bool:
        return not self.is_answering or self.cycle.more_body

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.since = self.loop.time()
        if len(self.connections) > self.limits.requests:
            others: Any = self.connections - {self}
            waiting = [one for one in others if one.waits_for_caller]
            if waiting:
                min(waiting, key=lambda one: one.since).transport.abort()
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect("read", self.limits.send_seconds)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget("read")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for name in list(self._deadlines):
            self._forget(name)

    def _watch(self) -> None:
        """Expect a request's head in time, unless one is being answered."""
        if self.is_answering:
            self._forget("head")
        elif "head" not in self._deadlines and not self.transport.is_closing():
            self._expect("head", self.limits.header_seconds)

    def _expect(self, name: str, seconds: float) -> None:
        self._deadlines[name] = self.loop.call_later(seconds, self.transport.abort)

    def _forget(self, name: str) -> None:
        if name in self._deadlines:
            self._deadlines.pop(name).cancel()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; MultiTaskNetError if the address is not free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        raise MultiTaskNetError(
            f"cannot listen on {host}:{port} ({error}); if it is in use, choose another --port"
        ) from error
    # Connections inherit it: head and body of an answer leave at once, not 40 ms apart.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").split("\n", 1)[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MultiTaskNetError(f"{path}: the token cannot be read ({error})") from error
    if not (len(token) >= 8 and token.isascii() and token.isprintable() and " " not in token):
        raise MultiTaskNetError(
            f"{path}: expected 8 or more letters, digits or signs in the first line"
        )
    return token
