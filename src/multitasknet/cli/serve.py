"""``serve``: the page and the server."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import add_command, add_predictor_options, make_predictor

_PACKAGES = ("fastapi", "uvicorn", "python_multipart")


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
    serve.add_argument("--port", type=int, default=8000, help="port, 0 for any free one (8000)")
    serve.add_argument(
        "--token-file", type=Path, help="file whose first line is the token that callers must send"
    )
    add_predictor_options(serve, "--backend", "--precision")


def _serve(options: argparse.Namespace) -> None:
    from ..errors import import_extra

    for package in _PACKAGES:
        import_extra(package, "serve")
    from ..gallery.gallery import open_gallery
    from ..server.process import listen, read_token, serve
    from ..server.service import Service

    host = options.host
    token = None if options.token_file is None else read_token(options.token_file)
    with listen(host, options.port) as listening:
        predictor = make_predictor(options)
        gallery = None if options.gallery is None else open_gallery(options.gallery, predictor)
        url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
        print(f"weights  {predictor.engine.source or 'none: random values'}")
        print(f"gallery  {'none' if gallery is None else f'{len(gallery):,} crops'}")
        print(f"page     {url}\nAPI      {url}docs", flush=True)
        serve(Service(predictor, gallery), listening, host, token)
