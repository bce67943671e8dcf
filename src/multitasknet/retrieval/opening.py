"""Which gallery stands behind a path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..files import expand
from ..hub.card import assets_folder
from .embedding import origin_of
from .gallery import Gallery
from .memory_gallery import GalleryError, open_folder, open_index
from .store import check_name, is_store
from .store_search import StoreGallery

if TYPE_CHECKING:
    from ..inference.predictor import Predictor

DEMO = "demo"


def open_gallery(path: str | Path, predictor: Predictor, *, progress: bool = True) -> Gallery:
    """Open a gallery to search with a predictor.

    Args:
        path: a store of ``multitasknet gallery`` (its name ends in ``.lance``), a folder of vehicle
            crops, a data set in any layout of :func:`read_dataset` (its split ``gallery``), an
            ``.npz`` index of ``multitasknet search``, or ``demo``: the generated crops that travel
            in the package.
        predictor: the network that searches; it embeds what is not embedded yet.
        progress: draw a progress bar.

    Raises:
        GalleryError: nothing, or nothing that is a gallery, is there.
        DataError: pictures or labels are faulty.
        GalleryIndexError: the index is damaged, or another network's.
        StoreError: so is the store.
        MissingExtraError: a store, and LanceDB is not installed.
    """
    if path == DEMO:
        return open_folder(assets_folder() / "demo" / "gallery", predictor, progress=progress)
    place = expand(path)
    if place.is_file() and place.suffix == ".npz":
        return open_index(place, predictor)
    if is_store(path):
        return _open_store(path, predictor)
    if not place.is_dir():
        raise GalleryError(
            f"{place}: expected a store (.lance), a folder of vehicle crops, a data set, an .npz "
            f"index or {DEMO!r}"
        )
    return open_folder(place, predictor, progress=progress)


def _open_store(path: str | Path, predictor: Predictor) -> Gallery:
    check_name(path)
    gallery = StoreGallery(path)
    gallery.check_origin(origin_of(predictor))
    return gallery
