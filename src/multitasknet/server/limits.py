"""What a request may take, and how long."""

from __future__ import annotations

from dataclasses import dataclass

from .problems import ProblemError


@dataclass(frozen=True)
class Limits:
    """Bounds of requests.

    In the worst case ``requests * small_body + large_bodies * body`` bytes of bodies are in memory.

    Attributes:
        body: bytes of a body.
        small_body, large_bodies: bodies up to so many bytes are always read; of larger ones so many
            at a time.
        pixels: of one picture; those of one request have four times as many together.
        requests: that are in work or waiting, and connections that may be open.
        header_seconds: from the start of a connection, or its last answer, to a request's head.
        body_seconds, stalled_seconds: for a body, and between two pieces of it.
        send_seconds: that a caller may leave an answer unread.
        drain_seconds: that requests have at the end of the server.
    """

    body: int = 32 << 20
    small_body: int = 1 << 20
    large_bodies: int = 4
    pixels: int = 16_000_000
    requests: int = 256
    header_seconds: float = 10
    body_seconds: float = 60
    stalled_seconds: float = 10
    send_seconds: float = 30
    drain_seconds: float = 30

    def too_large(self) -> ProblemError:
        detail = f"the body is too large; expected at most {self.body:,} bytes"
        return ProblemError(413, detail, headers={"Connection": "close"})
