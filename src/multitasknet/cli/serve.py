"""``serve``: the page and the server."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_command, add_predictor_options, make_predictor, positive

if TYPE_CHECKING:
    from ..server.service import Service

_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
_MOST_PORT = 65535


def add_parsers(commands: Any) -> None:
    serve = add_command(
        commands,
        "serve",
        _serve,
        "a page, and a server for other programs, until Ctrl-C",
        example="--gallery demo",
    )
    serve.add_argument(
        "--gallery",
        metavar="PLACE",
        help="to search in: a store (.lance), a folder of crops, a data set, or 'demo', generated "
        "crops (default: no search)",
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=_port, default=8000, help="port, 0 for any free one (8000)")
    serve.add_argument(
        "--token-file", type=Path, help="file whose first line is the token that callers must send"
    )
    add_predictor_options(serve, "--threads", "--backend", "--precision")
    serve.add_argument(
        "--batch-size", type=positive, default=8, help="most images of callers at a time (8)"
    )


def _serve(options: argparse.Namespace) -> None:
    from ..errors import import_extra

    for package in _PACKAGES:
        import_extra(package, "serve")
    from ..gallery.gallery import open_gallery
    from ..server.running import serve
    from ..server.service import Service

    def opens(on_batch: Callable[[int], object]) -> Service:
        predictor = make_predictor(options)
        gallery = None if options.gallery is None else open_gallery(options.gallery, predictor)
        return Service(predictor, gallery, on_batch=on_batch)

    serve(
        opens,
        host=options.host,
        port=options.port,
        token_file=options.token_file,
        on_ready=_print_ready,
    )


def _print_ready(service: Service, url: str) -> None:
    gallery = service.gallery
    print(f"weights  {service.predictor.engine.source or 'none: random values'}")
    print(f"gallery  {'none' if gallery is None else f'{len(gallery):,} crops'}")
    print(f"page     {url}\nAPI      {url}docs", flush=True)


def _port(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else -1
    if not 0 <= value <= _MOST_PORT:
        raise argparse.ArgumentTypeError(
            f"expected a port from 0 to {_MOST_PORT}, got {text[:20]!r}"
        )
    return value
