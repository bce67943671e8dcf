"""What goes wrong, as RFC 9457's ``application/problem+json``."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ..errors import MultiTaskNetError
from .batching import OverloadError

logger = logging.getLogger(__name__)


class ProblemError(Exception):
    """A request that is not answered, and why.

    Args:
        status: of HTTP.
        detail: what was expected, and the remedy.
        field: of the request, such as ``images[2]``.
        file: as its sender calls it.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        file: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.file = file
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """As it is sent; ``error`` is what Open Inference clients look for."""
        facts = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "field": self.field,
            "file": self.file,
            "error": self.detail,
        }
        known = {name: value for name, value in facts.items() if value is not None}
        return Response(
            json.dumps(known),
            self.status,
            headers=self.headers,
            media_type="application/problem+json",
        )


def busy(detail: str) -> ProblemError:
    """The one 5xx that is promised: come back later."""
    return ProblemError(503, detail, headers={"Retry-After": "1"})


def add_handlers(app: FastAPI) -> None:
    """Have all that goes wrong in an application answered as a problem."""

    def answer(_: Request, error: Exception) -> Response:
        return _problem_of(error).response()

    for kind in (ProblemError, HTTPException, MultiTaskNetError, OverloadError, ClientDisconnect):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(Exception, answer)


def _problem_of(error: Exception) -> ProblemError:
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, HTTPException):
        return ProblemError(error.status_code, str(error.detail), headers=error.headers)
    if isinstance(error, MultiTaskNetError):
        return ProblemError(400, str(error))
    if isinstance(error, OverloadError):
        return busy("too many pictures are waiting; try again in a moment")
    if isinstance(error, ClientDisconnect):
        return ProblemError(400, "the request broke off")
    logger.error("a request failed", exc_info=error)
    return ProblemError(500, "something went wrong here; the server's log says what")


def as_json(value: Any) -> bytes:
    """JSON in UTF-8; what is no number is null."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        text = json.dumps(value)
        return json.dumps(json.loads(text, parse_constant=lambda _: None)).encode()


class Json(Response):
    """A result."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return as_json(content)
