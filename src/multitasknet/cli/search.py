"""``search``, ``group`` and ``compare``: crops that are found, grouped and compared."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_command,
    add_options,
    add_predictor_options,
    check_folder,
    images_of,
    make_predictor,
    positive,
    print_json,
    print_rows,
    share,
)

if TYPE_CHECKING:
    from ..gallery.comparing import Comparison
    from ..gallery.gallery import Gallery
    from ..gallery.index import Setting
    from ..gallery.rows import Hit
    from ..inference.predictor import Prediction, Predictor

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
    add_distances(search)
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
    add_predictor_options(search)

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
    add_distances(group, default=0.001)
    add_options(group, "--boxes", "--center-cameras")
    add_predictor_options(group)

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


def _add_gallery(parser: argparse.ArgumentParser, name: str, **options: Any) -> None:
    text = "a store .lance, a folder of crops, a data set (its split gallery), or 'demo'"
    parser.add_argument(name, metavar="GALLERY", help=text, **options)


def add_distances(parser: argparse.ArgumentParser, *, default: float | None = None) -> None:
    """The options of :func:`distance_of`; the default is a rate."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--max-distance", type=number, help="squared Euclidean, at most")
    choice.add_argument(
        "--false-match-rate",
        type=share,
        metavar="RATE",
        help="the distance within which this share of pairs of strangers in the gallery lies"
        f"{f' ({default:g})' if default else ''}",
    )
    parser.set_defaults(default_rate=default)


def distance_of(options: argparse.Namespace, gallery: Gallery) -> Any:
    """The largest squared distance that is asked for; None for any."""
    asked = options.false_match_rate or options.default_rate
    if options.max_distance is not None or asked is None:
        return options.max_distance
    centered = getattr(options, "center_cameras", False)  # a search has no such option
    rates = gallery.centered_rates() if centered else gallery.rates
    # A small folder shows no rate as small as the default.
    return rates.distance_at(options.false_match_rate or max(asked, rates.least))


def number(text: str) -> float:
    """An argument that is a finite number of at least 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value


def _search(options: argparse.Namespace) -> None:
    import numpy as np

    from ..errors import GalleryError
    from ..files import check_output
    from ..gallery.entries import write_ranks
    from ..gallery.gallery import find_gallery, open_gallery
    from ..gallery.pages import write_search_page

    if options.submission and any(
        getattr(options, name)
        for name in ("where", "max_distance", "false_match_rate", "group_by", "output", "json")
    ):
        raise GalleryError("--submission has the 100 nearest of all crops; give it alone")
    images = images_of(options.query)
    place = find_gallery(options.gallery)  # before a network is loaded
    folder = place if isinstance(place, Path) else None
    for target in filter(None, (options.output, options.submission)):
        check_output(target, inputs=images)
    if options.submission and folder is None:
        raise GalleryError("a store has no list; give the challenge's folder as gallery")
    predictor = make_predictor(options)
    gallery = open_gallery(place, predictor)
    queries = list(predictor.stream(images))
    limit = distance_of(options, gallery)
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
        write_search_page(options.output, queries, found, gallery, predictor)
        print(options.output, file=sys.stderr if options.json else sys.stdout)
    if options.submission and folder:
        print(write_ranks(options.submission, found, folder))
        return
    rows, setting = gallery.count(options.where), gallery.plan(options.where)
    inside = gallery.find(one.sha256 for one in queries)
    answers = [
        (query, hits, inside[query.sha256].id if query.sha256 in inside else None)
        for query, hits in zip(queries, found, strict=True)
    ]
    if options.json:
        calibration = predictor.calibration
        shared = {
            "searched": {"rows": rows, "setting": setting and asdict(setting)},
            "max_distance": limit,
            "pairs": gallery.rates.pairs,
            "measured_on": calibration and calibration.measured_on,
        }
        print_json(_answer_as_json(*answer) | shared for answer in answers)
        return
    for answer in answers:
        _print_answer(*answer)
        print(f"  of {rows:,} rows, {_how(setting)}")
    print(f"\n{gallery.rates.about}\n{_calibrated(predictor)}")


def _answer_as_json(query: Prediction, hits: Sequence[Hit], itself: str | None) -> dict[str, Any]:
    return {
        "query": query.source,
        "quality": query.quality,
        "reason": query.reason,
        "in_gallery": itself,
        "matches": [asdict(hit.row) | hit.meaning for hit in hits],
    }


def _how(setting: Setting | None) -> str:
    if setting is None:
        return "each compared"
    return (
        f"{setting.probes} probes of the index, whose recall was {setting.recall:.3f} on "
        f"{setting.rows:,} rows"
    )


def _print_answer(query: Prediction, hits: Sequence[Hit], itself: str | None) -> None:
    print(f"\n{query.source}{query.doubt}" + (f" (in the gallery: {itself})" if itself else ""))
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
    from ..errors import GalleryError
    from ..gallery.gallery import find_gallery, open_gallery
    from ..gallery.pages import write_contact_sheet

    check_folder(options.output)
    gallery = find_gallery(options.gallery)
    if not isinstance(gallery, Path) and (options.weights or options.pose != "auto"):
        raise GalleryError("a store's rows are embedded already; leave --weights and --pose out")
    if isinstance(gallery, Path) or options.boxes:
        gallery = open_gallery(gallery, make_predictor(options), boxes=options.boxes)
    limit = distance_of(options, gallery)
    groups = gallery.group(max_distance=limit, center_cameras=options.center_cameras)
    table = groups.write(options.output / "vehicles.csv")
    sheet = write_contact_sheet(options.output / "vehicles.html", groups)
    print_rows(groups.counts | {"table": table, "contact sheet": sheet})


def _compare(options: argparse.Namespace) -> None:
    from ..errors import OutputError
    from ..files import check_output
    from ..gallery.comparing import compare
    from ..gallery.gallery import find_gallery, open_gallery
    from ..gallery.pages import draw_comparison
    from ..inference.agreement import agreement_in_words

    images = (options.first, options.second)
    images_of(images)
    if options.output:
        if options.output.suffix.lower() != ".png":
            raise OutputError(f"{options.output}: expected a name that ends in .png")
        check_output(options.output, inputs=images)
    # Before a network is loaded.
    place = find_gallery(options.gallery) if options.gallery else None
    predictor = make_predictor(options)
    gallery = None if place is None else open_gallery(place, predictor)
    result = compare(predictor, *images, gallery=gallery)
    if options.output:
        draw_comparison(options.output, images, result)
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


def _print_meaning(result: Comparison, gallery: Gallery | None, predictor: Predictor) -> None:
    if result.first.reason or result.second.reason:
        return  # what is wrong with them was said first
    lines = ["what it means a gallery knows: --gallery"]
    if gallery is not None:
        lines = [result.rate.sentence if result.rate else gallery.rates.about]
        if result.probability is not None:
            lines.append(_likely(result.probability))
        lines.append(_calibrated(predictor))
    for line in lines:
        print(f"              {line}")
