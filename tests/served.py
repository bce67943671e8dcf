"""A server of the package on loopback, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Served:
    """A server's address and application, and the cache with its networks, if it has one."""

    url: str
    app: Any
    cache: Path | None = None

    @property
    def service(self) -> Any:
        return self.app.state.service

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self.url.rpartition(":")[2])


@contextmanager
def serving(
    opens: Callable[..., Any], *, is_ready: bool = True, **options: Any
) -> Iterator[Served]:
    """Run a server; the block begins when it answers, and is ready unless that is not awaited."""
    from multitasknet.server.app import create_app
    from multitasknet.server.running import listen, make_server

    app = create_app(opens, **options)
    server = make_server(app)
    with listen("127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until_true(lambda: server.started and (app.state.service or not is_ready))
            yield Served(url, app)
        finally:
            server.should_exit = True
            thread.join()


class Borrowed:
    """Another server's service, which its owner closes."""

    def __init__(self, served: Served) -> None:
        self._service = served.service

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def close(self) -> None: ...


def until_true(condition: Callable[[], Any], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
