"""A server of the package on loopback, in a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx


@dataclass(frozen=True)
class Served:
    """Where a server is, what answers there, and the cache with its networks, if it has one."""

    url: str
    app: Any
    cache: Path | None = None

    @property
    def service(self) -> Any:
        return self.app.state.service


@contextmanager
def serving(opens: Callable[..., Any], **options: Any) -> Iterator[Served]:
    """Run a server; the block begins when it answers, whether it is ready or not."""
    import uvicorn

    from multitasknet.server.app import create_app

    app = create_app(opens, **options)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until_true(lambda: server.started)
            yield Served(url, app)
        finally:
            server.should_exit = True
            thread.join()


def until_ready(served: Served) -> None:
    until_true(lambda: httpx.get(f"{served.url}/healthz").json()["ready"])


def until_true(condition: Callable[[], Any], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
