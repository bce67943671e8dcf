"""Running the application: address, token, connections with deadlines, and the end."""

from __future__ import annotations

import ipaddress
import logging
import math
import socket
import time
from pathlib import Path
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import MultiTaskNetError
from .api import create_app
from .guard import Limits
from .service import Service

logger = logging.getLogger(__name__)


def serve(service: Service, listening: socket.socket, host: str, token: str | None) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests that are running.

    Callers who came to the socket of :func:`listen` before are answered now. ``host`` is as the
    user calls it; without a token anyone may call.
    """
    hosts = local_names(host, listening)
    if token is None and not hosts:
        logger.warning(
            "anyone who reaches %s can use this server and see its gallery; set --token-file", host
        )
    make_server(create_app(service, token=token, hosts=hosts)).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; MultiTaskNetError if the address is not free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        raise MultiTaskNetError(
            f"cannot listen on {host}:{port} ({error}); expected a --host of this machine, and a "
            f"--port from 0 to 65535 that is not in use"
        ) from error
    # Connections inherit it: head and body of an answer leave at once, not 40 ms apart.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def local_names(host: str, listening: socket.socket) -> frozenset[str]:
    """The names of a host that only this machine reaches; none for another."""
    if not ipaddress.ip_address(listening.getsockname()[0]).is_loopback:
        return frozenset()
    return frozenset({"localhost", "127.0.0.1", "::1", host.lower()})


def make_server(app: FastAPI) -> uvicorn.Server:
    """A server of the application, with the deadlines of its limits."""
    limits: Limits = app.state.limits
    config = uvicorn.Config(
        app,
        http=_Connection,
        ws="none",
        lifespan="off",
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=cast("int", limits.drain_seconds),
    )
    return _Server(config, limits)


class _Connection(H11Protocol):
    """A connection that knows what its caller owes, and since when."""

    owes = ""
    since = 0.0
    _state: Any = None

    def look(self, now: float) -> None:
        """Note whether the caller owes a request's head, its body, or reading the answer."""
        if self.flow.write_paused:
            self.owes = "answer"
        elif self.cycle is None or self.cycle.response_complete:
            self.owes = "head"
        else:
            self.owes = "body" if self.cycle.more_body else ""
        # Each request has a cycle of its own.
        if self._state != (self.cycle, self.owes):
            self._state, self.since = (self.cycle, self.owes), now


class _Server(uvicorn.Server):
    """Closes connections whose callers are silent, slow, or in the way of others."""

    def __init__(self, config: uvicorn.Config, limits: Limits) -> None:
        super().__init__(config)
        self._most = limits.requests
        # Slow bodies are the guard's.
        self._seconds = {"head": limits.head_seconds, "answer": limits.answer_seconds}

    async def on_tick(self, counter: int) -> bool:
        now = time.monotonic()
        connections: Any = self.server_state.connections
        for one in connections:
            one.look(now)
        waiting = sorted((one for one in connections if one.owes), key=lambda one: one.since)
        too_many = max(len(connections) - self._most, 0)
        late = [one for one in waiting if now - one.since > self._seconds.get(one.owes, math.inf)]
        for one in {*waiting[:too_many], *late}:
            one.transport.abort()
        return await super().on_tick(counter)


def read_token(path: Path) -> str:
    """A file's first line; MultiTaskNetError if that is no token."""
    token = path.read_text(encoding="ascii", errors="replace").partition("\n")[0].strip()
    if not (len(token) >= 8 and token.isascii() and token.isprintable() and " " not in token):
        raise MultiTaskNetError(
            f"{path}: expected 8 or more letters, digits or signs in the first line"
        )
    return token
