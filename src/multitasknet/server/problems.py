"""All that goes wrong in one shape: RFC 9457's ``application/problem+json``."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from ..errors import DataError, ImageError

# Other errors of this package are of the server, and may name its files.
_MISTAKES = DataError, ImageError, ClientDisconnect


class ProblemError(HTTPException):
    """A request that cannot be answered: what was expected, and the remedy.

    ``field`` is of the request, such as ``images[2]``, ``file`` as its sender calls it.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        file: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        facts = {"status": status, "detail": detail, "field": field, "file": file}
        self.facts = {name: value for name, value in facts.items() if value is not None}

    def response(self) -> Response:
        kind = "application/problem+json"
        return JSONResponse(self.facts, self.status_code, self.headers, media_type=kind)


def busy(detail: str) -> ProblemError:
    """The one 5xx that callers must expect: try again later."""
    headers = {"Retry-After": "1", "Connection": "close"}
    return ProblemError(503, f"{detail}; try again in a moment", headers=headers)


def add_handlers(app: FastAPI) -> None:
    """Answer every error in an application as a problem."""
    for kind in (HTTPException, RequestValidationError, *_MISTAKES, Exception):
        app.add_exception_handler(kind, lambda _, error: _problem_of(error).response())


def _problem_of(error: Exception) -> ProblemError:
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, HTTPException):
        headers = None if error.headers is None else dict(error.headers)
        return ProblemError(error.status_code, error.detail, headers=headers)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        parts = [f"[{one}]" if isinstance(one, int) else f".{one}" for one in first["loc"][1:]]
        field = "".join(parts).removeprefix(".")[:100]
        return ProblemError(400, first["msg"], field=field or "body")
    if isinstance(error, _MISTAKES):
        return ProblemError(400, str(error) or "the request was cut off")
    return ProblemError(500, "something went wrong in the server; its log has the details")
