"""``gallery``, ``search``, ``group`` and ``compare``: crops that are kept, found and compared."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_command,
    add_options,
    add_predictor_options,
    boxes_in,
    check_folder,
    check_images,
    images_of,
    make_predictor,
    positive,
    predictor_settings,
    print_json,
    print_rows,
    print_table,
    share,
)

if TYPE_CHECKING:
    from ..gallery.comparing import Comparison
    from ..gallery.gallery import Gallery
    from ..gallery.linking import Travel
    from ..gallery.rows import AddReport, Entry, Hit
    from ..inference.predictor import Predictor

_SHOWN = 10
# Of the AI City Challenge.
_SUBMITTED = 100
_UNCALIBRATED = "Not calibrated: no probabilities ('multitasknet calibrate' measures them)."


def add_parsers(commands: Any) -> None:
    search = add_command(
        commands,
        "search",
        _search,
        "find the vehicles of images in a gallery",
        example="--gallery demo --query car.jpg --top 3",
    )
    _add_gallery(search, "--gallery", required=True)
    search.add_argument(
        "--query",
        type=Path,
        nargs="+",
        required=True,
        metavar="IMAGE",
        help="crops to find, or folders of them",
    )
    search.add_argument("--top", type=positive, default=10, help="rows for each query (10)")
    search.add_argument("--where", metavar="SQL", help="such as: camera = '3' and color = 'red'")
    _add_distances(search)
    search.add_argument(
        "--group-by", choices=("camera",), help="give only the nearest row of each camera"
    )
    search.add_argument(
        "--output", type=Path, metavar="HTML", help="write a page with the pictures"
    )
    search.add_argument(
        "--submission",
        type=Path,
        metavar="FILE",
        help="write the 100 nearest of each query as a challenge wants them: a line a query, "
        "places in the gallery's list, from 1",
    )
    add_options(search, "--json")
    add_predictor_options(search, "--precision")

    group = add_command(
        commands,
        "group",
        _group,
        "find out which crops show one vehicle",
        example="crops --output vehicles",
    )
    _add_gallery(group, "gallery")
    group.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        required=True,
        help="folder for vehicles.csv (image, vehicle) and vehicles.html, a contact sheet",
    )
    _add_distances(group, default=0.001)
    add_options(group, "--boxes", "--center-cameras")
    add_predictor_options(group, "--precision")

    compare = add_command(
        commands,
        "compare",
        _compare,
        "measure how alike the vehicles of two images are",
        example="first.jpg second.jpg",
    )
    for name in ("first", "second"):
        compare.add_argument(name, type=Path, metavar="IMAGE", help="a vehicle crop")
    compare.add_argument(
        "--output", type=Path, metavar="FILE", help="draw both with the surfaces that agree, as PNG"
    )
    _add_gallery(compare, "--gallery")
    add_options(compare, "--json")
    add_predictor_options(compare)

    gallery = commands.add_parser(
        "gallery", help="keep a gallery that grows", description="Keep a gallery that grows."
    )
    actions = gallery.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add_actions(actions)


def _add_actions(actions: Any) -> None:
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
    index = _action(actions, "index", _index, "build the index for searching many rows")
    index.add_argument("--recall", type=share, default=0.95, help="share to be found (0.95)")
    export = _action(actions, "export", _export, "write rows, or their crops", "rows.parquet")
    export.add_argument(
        "output",
        type=Path,
        help="a file .parquet, or .csv without embeddings; or a new folder for the crops as JPEG "
        "files, with crops.csv",
    )
    export.add_argument("--where", metavar="SQL", help="which rows (all)")
    link = _action(actions, "link", _link, "link rows across cameras and times into vehicles")
    _add_distances(link, default=0.001)
    link.add_argument(
        "--window",
        type=_number,
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


def _add_gallery(parser: argparse.ArgumentParser, name: str, **options: Any) -> None:
    text = "a store .lance, a folder of crops, a data set (its split gallery), or 'demo'"
    parser.add_argument(name, metavar="GALLERY", help=text, **options)


def _add_distances(parser: argparse.ArgumentParser, *, default: float | None = None) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--max-distance", type=_number, help="squared Euclidean, at most")
    choice.add_argument(
        "--false-match-rate",
        type=share,
        metavar="RATE",
        help="the distance within which this share of pairs of strangers in the gallery lies"
        f"{f' ({default:g})' if default else ''}",
    )
    parser.set_defaults(default_rate=default)


def _search(options: argparse.Namespace) -> None:
    import numpy as np

    from ..files import check_output
    from ..gallery.entries import entry_order, write_ranks
    from ..gallery.gallery import find_gallery, open_gallery
    from ..gallery.pages import write_search_page

    options.query = images_of(options.query)
    place = find_gallery(options.gallery)  # before a network is loaded
    for target in filter(None, (options.output, options.submission)):
        check_output(target, inputs=options.query)
    order = entry_order(place) if options.submission else {}
    predictor = make_predictor(options)
    gallery = open_gallery(options.gallery, predictor)
    setting = gallery.plan(options.where)
    queries = list(predictor.stream(options.query))
    limit = _limit(options, gallery)
    found = gallery.search(
        np.stack([one.embedding for one in queries]),
        top=_SUBMITTED if options.submission else options.top,
        where=options.where,
        max_distance=limit,
        group_by=options.group_by,
        calibration=predictor.calibration,
    )
    found = [
        hits if query.reason is None else [hit.alone for hit in hits]
        for query, hits in zip(queries, found, strict=True)
    ]
    if options.output:
        page = write_search_page(
            options.output,
            queries,
            found,
            gallery=len(gallery),
            rates=gallery.rates,
            weights=predictor.engine.source,
            calibration=predictor.calibration,
        )
        print(page, file=sys.stderr if options.json else sys.stdout)
    if options.submission:
        print(write_ranks(options.submission, found, order))
        return
    rows, inside = gallery.count(options.where), gallery.find(one.sha256 for one in queries)
    searched = {"rows": rows, "setting": setting and asdict(setting)}
    for query, hits in zip(queries, found, strict=True):
        itself = inside[query.sha256].id if query.sha256 in inside else None
        if options.json:
            about: dict[str, Any] = {
                "query": query.source,
                "quality": query.quality,
                "reason": query.reason,
                "in_gallery": itself,
                "searched": searched,
            }
            about |= {"max_distance": limit, "pairs": gallery.rates.pairs}
            print_json([about | _as_json(hits, predictor)])
            continue
        print(f"\n{query.source}{query.doubt}" + (f" (in the gallery: {itself})" if itself else ""))
        _print_hits(hits)
        how = "each compared"
        if setting is not None:
            how = (
                f"{setting.probes} probes of the index, whose recall was {setting.recall:.3f} on "
                f"{setting.rows:,} rows"
            )
        print(f"  of {rows:,} rows, {how}")
    if not options.json:
        print(f"\n{gallery.rates.about}\n{_calibrated(predictor)}")


def _as_json(hits: Sequence[Hit], predictor: Predictor) -> dict[str, Any]:
    matches = [asdict(hit.row) | hit.meaning for hit in hits]
    calibration = predictor.calibration
    return {"matches": matches, "measured_on": calibration and calibration.measured_on}


def _print_hits(hits: Sequence[Hit]) -> None:
    for rank, hit in enumerate(hits, start=1):
        row = hit.row
        facts = (
            hit.rate and hit.rate.words,
            hit.probability is not None and _likely(hit.probability),
            row.name,
            row.camera and f"camera {row.camera}",
            row.time,
            row.color,
            row.type,
        )
        known = "  ".join(str(fact) for fact in facts if fact)
        print(f"  {rank:3}  {hit.distance:10.4g}  {known}")
    if not hits:
        print("  nothing")


def _likely(probability: float) -> str:
    return f"same vehicle {100 * probability:.0f} %"


def _calibrated(predictor: Predictor) -> str:
    calibration = predictor.calibration
    return f"Probabilities: {calibration.origin}." if calibration else _UNCALIBRATED


def _group(options: argparse.Namespace) -> None:
    from ..gallery.gallery import find_gallery, open_gallery
    from ..gallery.pages import write_contact_sheet

    check_folder(options.output)
    gallery = find_gallery(options.gallery)
    if isinstance(gallery, Path) or options.boxes:
        gallery = open_gallery(options.gallery, make_predictor(options), boxes=options.boxes)
    limit, centered = _limit(options, gallery), options.center_cameras
    groups = gallery.group(max_distance=limit, center_cameras=centered)
    table = groups.write(options.output / "vehicles.csv")
    sheet = write_contact_sheet(options.output / "vehicles.html", groups)
    print_rows(groups.counts | {"table": table, "contact sheet": sheet})


def _compare(options: argparse.Namespace) -> None:
    from ..files import check_output
    from ..gallery.comparing import compare
    from ..gallery.gallery import find_gallery, open_gallery
    from ..inference.agreement import agreement_in_words

    images = [options.first, options.second]
    check_images(images)
    if options.output:
        check_output(options.output, inputs=images)
    if options.gallery:
        find_gallery(options.gallery)  # before a network is loaded
    predictor = make_predictor(options)
    gallery = open_gallery(options.gallery, predictor) if options.gallery else None
    result = compare(predictor, *images, gallery=gallery)
    if options.output:
        _write_agreement(options.output, images, result)
        print(options.output, file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print_json([result.as_json()])
        return
    for prediction in (result.first, result.second):
        named = f"{prediction.source}: {prediction.color or ''} {prediction.type or ''}"
        print(f"{named.rstrip(': ')}{prediction.doubt}")
    print(f"distance      {result.distance:.4g} (squared Euclidean)")
    _print_meaning(result, gallery, predictor)
    print(f"surfaces      {agreement_in_words(result.parts)}")
    seen = [part for part in result.parts if part.contribution is not None]
    for part in sorted(seen, key=lambda one: -(one.contribution or 0)):
        mark = "agrees" if part.agrees else ""
        print(f"  {part.surface:17} {part.contribution:+.3f}  {mark}".rstrip())
    if seen:
        print("  (how much the cosine similarity of the embeddings falls when it is hidden)")


def _write_agreement(path: Path, images: Sequence[Path], result: Comparison) -> None:
    from PIL import Image

    from ..files import make_folder, replacing
    from ..images import read_image
    from ..report.overlay import draw_agreement

    parts = result.parts
    seen = [surface for surface, part in enumerate(parts) if part.seen_in_both]
    drawn = draw_agreement(
        [Image.fromarray(read_image(image)) for image in images],
        [one.pose.keypoints for one in (result.first, result.second)],
        seen,
        {surface: parts[surface].contribution or 0 for surface in seen if parts[surface].agrees},
    )
    make_folder(path.parent)
    with replacing(path) as part:
        drawn.save(part, "PNG")


def _print_meaning(result: Comparison, gallery: Gallery | None, predictor: Predictor) -> None:
    if result.first.reason or result.second.reason:
        return  # what is wrong with them was said first
    if gallery is None:
        print("              what it means a gallery knows: --gallery")
        return
    print(f"              {result.rate.sentence if result.rate else gallery.rates.about}")
    if result.probability is not None:
        print(f"              {_likely(result.probability)}")
    print(f"              {_calibrated(predictor)}")


def _add(options: argparse.Namespace) -> None:
    from ..gallery.entries import with_labels
    from ..gallery.gallery import Gallery
    from ..gallery.ray import ray_embedder

    if options.images and options.manifest:
        options.usage("give images or --manifest, not both")
    if options.boxes and not options.images:
        options.usage("--boxes is of frames: give these; boxes of a manifest are its columns")
    if not (options.images or options.manifest or options.reembed):
        options.usage("give images, or --manifest, or --reembed alone")
    entries = _entries(options)
    predictor = make_predictor(options)
    gallery = Gallery.create(options.store, predictor)
    entries = gallery.stale(predictor.origin) if entries is None else entries
    embedder: Any = nullcontext(predictor)
    if options.ray:
        settings = predictor_settings(options)
        embedder = ray_embedder(settings, predictor.origin, address=options.ray)
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
    from ..gallery.entries import entries_of, entries_of_boxes, read_manifest

    if options.manifest:
        return read_manifest(options.manifest)
    paths = [Path(image) for image in options.images]
    if options.images == ["-"]:
        paths = [Path(line) for _, line in read_lines(sys.stdin.buffer)]
    else:
        check_images([path for path in paths if not path.is_dir()])
    if boxes := boxes_in(options, paths):
        return entries_of_boxes(boxes)
    return entries_of(paths) if paths else None


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
    for one in _opened(options).build_index(options.recall):
        print(f"{one.probes:6} probes find {one.recall:.3f} of the 10 nearest")


def _export(options: argparse.Namespace) -> None:
    from ..files import check_output

    gallery, output = _opened(options), options.output
    if output.suffix:
        check_output(output)
        print(f"{gallery.export(output, options.where)} rows in {output}")
    else:
        check_output(output, folder=True)
        print(f"{gallery.export_crops(output, options.where)} crops in {output}")


def _link(options: argparse.Namespace) -> None:
    from ..gallery.journeys import read_travel_times

    gallery = _opened(options)
    limit, centered = _limit(options, gallery), options.center_cameras
    learn = options.travel_times == "learn"
    given = None if learn or not options.travel_times else read_travel_times(options.travel_times)
    groups = gallery.link(
        max_distance=limit,
        window=options.window,
        travel_times=given,
        learn=learn,
        center_cameras=centered,
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
    from ..gallery.pages import write_journeys_page

    path: Path = options.output
    if path.suffix not in (".html", ".csv", ".geojson"):
        raise GalleryError(f"{path}: expected a name that ends in .html, .csv or .geojson")
    check_output(path, inputs=filter(None, [options.cameras]))
    cameras = options.cameras and ways.read_cameras(options.cameras)
    gallery = _opened(options)
    found = ways.journeys(gallery, ways.vehicles(gallery, options.where))
    if not found:
        raise GalleryError(f"{options.store}: no such vehicle; 'gallery link' finds them first")
    if path.suffix == ".html":
        write_journeys_page(path, found, cameras)
    elif path.suffix == ".csv":
        ways.write_csv(path, found)
    else:
        ways.write_geojson(path, found, cameras or {})
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
    columns: dict[str, dict[str, float | str]] = {"vehicles": {}, "median s": {}, "spread s": {}}
    for way, one in travels.items():
        facts = one.vehicles, one.median, one.spread
        for column, fact in zip(columns.values(), facts, strict=True):
            column[" -> ".join(way)] = fact
    print()
    print_table(title, columns)


def _opened(options: argparse.Namespace) -> Gallery:
    from ..gallery.gallery import Gallery

    return Gallery(options.store)


def _limit(options: argparse.Namespace, gallery: Gallery) -> Any:
    asked = options.false_match_rate or options.default_rate
    if options.max_distance is not None or asked is None:
        return options.max_distance
    centered = getattr(options, "center_cameras", False)  # a search has no such option
    rates = gallery.centered_rates() if centered else gallery.rates
    # A small folder shows no rate as small as the default.
    return rates.distance_at(options.false_match_rate or max(asked, rates.least))


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value
