"""``gallery``: a store of crops that is added to, linked, exported and forgotten from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    PREDICTOR,
    add_command,
    add_options,
    add_predictor_options,
    boxes_in,
    given,
    images_of,
    make_predictor,
    print_json,
    print_rows,
    print_table,
    share,
)
from .search import add_distances, distance_of, number

if TYPE_CHECKING:
    from ..gallery.gallery import Gallery
    from ..gallery.linking import Travel
    from ..gallery.rows import AddReport, Entry

_SHOWN = 10


def add_parsers(commands: Any) -> None:
    gallery = commands.add_parser(
        "gallery", help="keep a gallery that grows", description="Keep a gallery that grows."
    )
    actions = gallery.add_subparsers(title="actions", required=True, metavar="ACTION")
    add = _action(actions, "add", _add, "embed pictures and store the results", "crops")
    add.add_argument("images", nargs="*", metavar="IMAGE", help="pictures, folders, - for a list")
    add.add_argument(
        "--manifest", type=Path, help="CSV or Parquet with image, and id, camera, time, your own"
    )
    add.add_argument(
        "--reembed",
        action="store_true",
        help="embed rows of other weights again (all of them if no images are given)",
    )
    add.add_argument(
        "--min-quality",
        type=share,
        default=0.0,
        metavar="Q",
        help="leave out pictures of less, such as 0.5: no vehicle, several, a part (0)",
    )
    add.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="embed on each machine of a Ray cluster, such as auto (this machine)",
    )
    add_options(add, "--labels", "--boxes", "--json")
    add_predictor_options(add, "--backend", "--precision")

    info = _action(actions, "info", _info, "print what a gallery holds")
    add_options(info, "--json")
    remove = _action(actions, "remove", _remove, "delete rows for good", "--where \"camera = '3'\"")
    remove.add_argument("--where", required=True, metavar="SQL", help="which rows")
    _action(actions, "compact", _compact, "join small files, drop versions older than an hour")
    _action(actions, "index", _index, "build the index for searching many rows")
    export = _action(actions, "export", _export, "write rows, or their crops", "rows.parquet")
    export.add_argument(
        "output",
        type=Path,
        help="a file .parquet, or .csv without embeddings; or a new folder for the crops as JPEG "
        "files, with crops.csv",
    )
    export.add_argument("--where", metavar="SQL", help="which rows (all)")
    link = _action(actions, "link", _link, "link rows across cameras and times into vehicles")
    add_distances(link, default=0.001)
    link.add_argument(
        "--window",
        type=number,
        default=1.0,
        metavar="SECONDS",
        help="in which a camera sees a vehicle once at most, but for tracks (1)",
    )
    link.add_argument(
        "--travel-times",
        metavar="CSV",
        help="what bounds the way between cameras: from, to, least and most seconds; or 'learn' "
        "to find it out",
    )
    add_options(link, "--center-cameras", "--json")
    journeys = _action(
        actions,
        "journeys",
        _journeys,
        "write the ways of linked vehicles from camera to camera",
        "--output journeys.html",
    )
    journeys.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="a name .html, .csv or .geojson"
    )
    journeys.add_argument(
        "--cameras", type=Path, metavar="CSV", help="for a map: name, latitude, longitude"
    )
    journeys.add_argument("--where", metavar="SQL", help="vehicles that have such a row (all)")
    add_options(journeys, "--json")


def _action(
    actions: Any, name: str, run: Any, help: str, example: str = ""
) -> argparse.ArgumentParser:
    parser = add_command(actions, name, run, help, example=example)
    parser.epilog = f"example:\n  multitasknet gallery {name} city.lance {example}".rstrip()
    parser.add_argument("store", metavar="STORE", help="a folder whose name ends in .lance")
    return parser


def _add(options: argparse.Namespace) -> None:
    from ..gallery.adding import ray_embedder
    from ..gallery.entries import with_labels
    from ..gallery.gallery import Gallery

    given_both = options.images and options.manifest
    if given_both or not (options.images or options.manifest or options.reembed):
        options.usage("give images, or --manifest, or --reembed alone")
    if options.boxes and not options.images:
        options.usage("--boxes is of frames: give these")
    entries = _entries(options)
    if entries is None:
        _opened(options)  # which is not made for rows that it cannot have
    predictor = make_predictor(options)
    gallery = Gallery.create(options.store, predictor)
    entries = gallery.stale(predictor.origin) if entries is None else entries
    embedder: Any = nullcontext(predictor)
    if options.ray:
        embedder = ray_embedder(given(options, PREDICTOR), predictor.origin, address=options.ray)
    entries = with_labels(entries, options.labels)
    with embedder as what:
        report = gallery.add(
            what, entries, min_quality=options.min_quality, reembed=options.reembed
        )
    _print_report(report, as_json=options.json)
    if report.broken and not report.added + report.unchanged:
        print("multitasknet: no picture could be read", file=sys.stderr)
        sys.exit(1)


def _entries(options: argparse.Namespace) -> list[Entry] | None:
    from ..data.text import read_lines
    from ..errors import GalleryError
    from ..gallery.entries import entries_of, entries_of_boxes, read_manifest

    if options.manifest:
        return read_manifest(options.manifest)
    paths = [Path(image) for image in options.images]
    if options.images == ["-"]:
        # No path holds a NUL: it becomes one that is not there.
        lines = (line.replace("\0", "\ufffd") for _, line in read_lines(sys.stdin.buffer))
        paths = list(map(Path, lines))
        if not paths:
            raise GalleryError("standard input: it names no picture; give a path a line")
    else:
        images_of([path for path in paths if not path.is_dir()])
    boxes = boxes_in(options, paths)
    if boxes is not None:
        return entries_of_boxes(boxes)
    return entries_of(paths) if options.images else None


def _print_report(report: AddReport, *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(report)])
        return
    left_out = ", ".join(f"{reason} {count}" for reason, count in report.low_quality.items())
    print_rows(asdict(report) | {"low_quality": left_out or 0, "broken": len(report.broken)})
    for image, problem in list(report.broken.items())[:_SHOWN]:
        print(f"  {image}: {problem}")


def _info(options: argparse.Namespace) -> None:
    from ..gallery.index import index_state

    gallery = _opened(options)
    facets, origins = gallery.facets, gallery.origins().items()
    rows = {
        "rows": len(gallery),
        "bytes": gallery.size(),
        "cameras": ", ".join(facets.cameras),
        "colors": ", ".join(facets.colors),
        "types": ", ".join(facets.types),
        "columns": ", ".join(gallery.columns),
        "weights": ", ".join(
            f"{one.weights_sha256[:12]} {one.precision} ({count} rows)" for one, count in origins
        ),
        "index": index_state(gallery),
    }
    print_rows(rows, as_json=options.json)


def _remove(options: argparse.Namespace) -> None:
    print(f"{_opened(options).remove(options.where)} rows are gone for good")


def _compact(options: argparse.Namespace) -> None:
    gallery = _opened(options)
    before = gallery.size()
    gallery.compact()
    print(f"{before:,} bytes before, {gallery.size():,} after")


def _index(options: argparse.Namespace) -> None:
    for one in _opened(options).build_index():
        print(f"{one.probes:6} probes find {one.recall:.3f} of the 10 nearest")


def _export(options: argparse.Namespace) -> None:
    from ..files import check_output

    gallery, output = _opened(options), options.output
    check_output(output, folder=not output.suffix)
    what = "rows" if output.suffix else "crops"
    print(f"{gallery.export(output, options.where)} {what} in {output}")


def _link(options: argparse.Namespace) -> None:
    from ..gallery.journeys import read_travel_times

    gallery = _opened(options)
    times = options.travel_times
    learn = times == "learn"
    groups = gallery.link(
        max_distance=distance_of(options, gallery),
        window=options.window,
        travel_times=read_travel_times(times) if times and not learn else None,
        learn=learn,
        center_cameras=options.center_cameras,
    )
    if options.json:
        print_json([groups.counts | {"travel_times": _as_rows(groups.travel_times)}])
        return
    print_rows(groups.counts)
    if learn:
        _print_travels("travel times", groups.travel_times)


def _journeys(options: argparse.Namespace) -> None:
    from ..errors import GalleryError
    from ..files import check_output
    from ..gallery import journeys as ways
    from ..gallery.pages import write_journeys

    path: Path = options.output
    if path.suffix not in (".html", ".csv", ".geojson"):
        raise GalleryError(f"{path}: expected a name that ends in .html, .csv or .geojson")
    check_output(path, inputs=filter(None, [options.cameras]))
    cameras = options.cameras and ways.read_cameras(options.cameras)
    gallery = _opened(options)
    found = ways.journeys(gallery, ways.vehicles(gallery, options.where))
    if not found:
        raise GalleryError(f"{options.store}: no such vehicle; 'gallery link' finds them first")
    write_journeys(path, found, cameras)
    ends = ways.origins_and_destinations(found)
    several = sum(len(one.stops) > 1 for one in found)
    counts = {"vehicles": len(found), "of several cameras": several}
    if options.json:
        tables = {"origins_and_destinations": ends, "travel_times": ways.ways(found)}
        print_json([counts | {name: _as_rows(one) for name, one in tables.items()}])
        return
    print_rows(counts | {"output": path})
    _print_travels("from first to last camera", ends)


def _as_rows(travels: Mapping[tuple[str, str], Travel]) -> list[dict[str, Any]]:
    return [{"from": one, "to": to} | asdict(travel) for (one, to), travel in travels.items()]


def _print_travels(title: str, travels: Mapping[tuple[str, str], Travel]) -> None:
    named = {" -> ".join(way): one for way, one in travels.items()}
    columns: dict[str, Mapping[str, float]] = {
        "vehicles": {way: one.vehicles for way, one in named.items()},
        "median s": {way: one.median for way, one in named.items()},
        "spread s": {way: one.spread for way, one in named.items()},
    }
    print()
    print_table(title, columns)


def _opened(options: argparse.Namespace) -> Gallery:
    from ..gallery.gallery import Gallery

    return Gallery(options.store)
