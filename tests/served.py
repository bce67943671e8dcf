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
    """A server's address, what it answers from, and the cache with its networks, if it has one."""

    url: str
    service: Any
    cache: Path | None = None


@contextmanager
def serving(service: Any, host: str = "127.0.0.1", **options: Any) -> Iterator[Served]:
    """Run a server of one's own :class:`.Service`; the block begins when it answers."""
    from multitasknet.server.api import create_app
    from multitasknet.server.process import listen, local_names, make_server

    with listen(host, 0) as listening:
        server = make_server(create_app(service, hosts=local_names(host, listening), **options))
        url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until_true(lambda: server.started)
            yield Served(url, service)
        finally:
            server.should_exit = True
            thread.join()


def until_true(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What the condition gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value
