"""A process that adds, compacts and indexes a store until it is killed, and says what it has done.

Usage: ``python gallery_writer.py STORE FIRST``; prints a line once a batch is committed.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import numpy as np
import stores
from stores import PixelPredictor

from multitasknet.retrieval.embedding import origin_of
from multitasknet.retrieval.store import NewRow
from multitasknet.retrieval.store_search import StoreGallery

BATCH = 250


def main(path: str, first: int) -> None:
    predictor = PixelPredictor()
    store = stores.open_store(Path(path))
    gallery = StoreGallery(store)
    print("ready", flush=True)
    for start in count(first, BATCH):
        rows = []
        for number in range(start, start + BATCH):
            color = np.random.default_rng(number).integers(0, 256, (1, 1, 3), np.uint8)
            row = NewRow(str(number), f"/{number}.png", "", None, bytes(32), 1, 1, {})
            rows.append((row, predictor.one(color, None)))
        store.commit(rows, origin_of(predictor))
        print(start, flush=True)
        if (start // BATCH) % 3 == 1:
            store.compact()
            print("compacted", flush=True)
        if (start // BATCH) % 3 == 2 and len(store) >= 1000:
            gallery.build_index(recall=0.5)
            print("indexed", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
