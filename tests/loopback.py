"""A real HTTP server on loopback whose answers can be made to go wrong."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """How to answer one request: another status than 200 (206 where a Range is honoured), without
    a body from 300; a connection that closes or goes silent after so many bytes; further headers,
    or other ones, of which an empty one is left out."""

    status: int = 200
    cut_after: int | None = None
    stall_after: int | None = None
    honour_range: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Resource:
    """A file: its bytes, and answers in order, the last of which stays."""

    content: bytes
    answers: list[Answer]
    requests: list[dict[str, str]] = field(default_factory=list)
    served: int = 0


class LoopbackServer:
    """Serves :class:`Resource` objects by path; a context manager."""

    def __init__(self) -> None:
        self.resources: dict[str, Resource] = {}
        resources = self.resources

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if (resource := resources.get(self.path)) is None:
                    return self.send_error(404)
                resource.requests.append(dict(self.headers))
                answers = resource.answers
                return _answer(self, resource, answers.pop(0) if len(answers) > 1 else answers[0])

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True

    def __enter__(self) -> LoopbackServer:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Serve over TLS from now on."""
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)

    def url(self, path: str, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self._http.server_address[1]}{path}"

    def serve(self, path: str, content: bytes, *answers: Answer) -> str:
        """Add or replace a resource; return its URL."""
        self.resources[path] = Resource(content, list(answers) or [Answer()])
        return self.url(path)


def _answer(handler: BaseHTTPRequestHandler, resource: Resource, answer: Answer) -> None:
    requested = handler.headers.get("Range", "") if answer.honour_range else ""
    start = int(requested[len("bytes=") : -1]) if requested else 0
    if answer.status < 300 and start >= len(resource.content) > 0:
        return handler.send_error(416)
    body = resource.content[start:] if answer.status < 300 else b""
    handler.send_response(206 if start and answer.status == 200 else answer.status)
    for name, value in ({"Content-Length": str(len(body))} | answer.headers).items():
        if value:
            handler.send_header(name, value)
    handler.end_headers()
    stop = min(x for x in (answer.cut_after, answer.stall_after, len(body)) if x is not None)
    handler.wfile.write(body[:stop])
    handler.wfile.flush()
    resource.served += stop
    if answer.stall_after is not None:
        time.sleep(5)
    handler.close_connection = True
    return None
