"""``serve``: the page and the server."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_command, add_predictor_options, make_predictor, positive

if TYPE_CHECKING:
    from ..server.service import OnBatch, Service

_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def add_parsers(commands: Any) -> None:
    serve = add_command(
        commands, "serve", _serve, "a page, and a server for other programs, until Ctrl-C"
    )
    serve.add_argument(
        "--gallery",
        default="demo",
        metavar="PATH",
        help="to search in: a store (.lance), a folder of crops, a data set, an .npz index, "
        "'none', or 'demo', generated crops (default)",
    )
    serve.add_argument("--host", default="127.0.0.1", help="to listen on (127.0.0.1)")
    serve.add_argument("--port", type=positive, default=8000, help="to listen on (8000)")
    serve.add_argument("--token-file", type=Path, help="whose first line callers must show")
    add_predictor_options(serve, batch=8)
    serve.set_defaults(weights="synthetic")


def _serve(options: argparse.Namespace) -> None:
    from ..errors import import_extra

    for package in _PACKAGES:
        import_extra(package, "serve")
    from ..retrieval.opening import open_gallery
    from ..server.app import serve
    from ..server.service import Service

    def opens(on_batch: OnBatch) -> Service:
        predictor = make_predictor(options)
        gallery = None if options.gallery == "none" else open_gallery(options.gallery, predictor)
        return Service(predictor, gallery, on_batch=on_batch)

    serve(
        opens,
        host=options.host,
        port=options.port,
        token_file=options.token_file,
        on_ready=_say_ready,
    )


def _say_ready(service: Service, url: str) -> None:
    gallery = service.gallery
    print(f"weights  {service.predictor.engine.source or 'none: random values'}")
    print(f"gallery  {'none' if gallery is None else f'{len(gallery):,} crops'}")
    print(f"page     {url}\nAPI      {url}docs", flush=True)
