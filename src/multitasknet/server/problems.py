"""All that goes wrong in one shape: RFC 9457's ``application/problem+json``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from ..errors import MultiTaskNetError

logger = logging.getLogger(__name__)

_MISTAKES = RequestValidationError, MultiTaskNetError, ClientDisconnect


class ProblemError(HTTPException):
    """A request that cannot be answered, and why.

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
        super().__init__(status, detail, dict(headers or {}))
        self.field = field
        self.file = file

    @classmethod
    def of(cls, error: ValidationError | RequestValidationError, place: str = "") -> ProblemError:
        """The first mistake that pydantic found; ``place`` is where the value was."""
        first = error.errors()[0]
        parts = first["loc"][1:] if isinstance(error, RequestValidationError) else first["loc"]
        text = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in parts)
        return cls(400, first["msg"], field=(place + text).removeprefix(".")[:100] or "body")

    def response(self) -> Response:
        facts = {
            "type": "about:blank",
            "title": HTTPStatus(self.status_code).phrase,
            "status": self.status_code,
            "detail": self.detail,
            "field": self.field,
            "file": self.file,
        }
        return JSONResponse(
            {name: value for name, value in facts.items() if value is not None},
            self.status_code,
            headers=self.headers,
            media_type="application/problem+json",
        )


def busy(detail: str) -> ProblemError:
    """The one 5xx that callers must expect: try again later."""
    return ProblemError(503, detail, headers={"Retry-After": "1"})


def add_handlers(app: FastAPI) -> None:
    """Answer every error in an application as a problem."""

    def answer(_: Request, error: Exception) -> Response:
        return _problem_of(error).response()

    for kind in (HTTPException, *_MISTAKES, Exception):
        app.add_exception_handler(kind, answer)


def _problem_of(error: Exception) -> ProblemError:
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, HTTPException):
        return ProblemError(error.status_code, str(error.detail), headers=error.headers)
    if isinstance(error, RequestValidationError):
        return ProblemError.of(error)
    if isinstance(error, _MISTAKES):
        return ProblemError(400, str(error) or "the request was cut off")
    logger.error("a request failed", exc_info=error)
    return ProblemError(500, "something went wrong in the server; its log has the details")
