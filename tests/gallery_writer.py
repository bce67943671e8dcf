"""A process that adds to a store until it is killed or done, and prints what is committed.

Usage: ``python gallery_writer.py STORE FIRST [COUNT]``; with a count rows alone, of so many batches
of 5, else batches of 250, which are compacted and indexed in between.
"""

from __future__ import annotations

import sys
from itertools import count

import stores

BATCH = 250


def endless(path: str, first: int) -> None:
    gallery = stores.open_gallery(path)
    print("ready", flush=True)
    for start in count(first, BATCH):
        stores.fill(gallery, range(start, start + BATCH))
        print(start, flush=True)
        if (start // BATCH) % 3 == 1:
            gallery.compact()
        if (start // BATCH) % 3 == 2 and len(gallery) >= 1000:
            gallery.build_index(recall=0.5)


def brief(path: str, first: int, batches: int) -> None:
    gallery = stores.open_gallery(path)
    for start in range(first, first + 5 * batches, 5):
        stores.fill(gallery, range(start, start + 5))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        endless(sys.argv[1], int(sys.argv[2]))
    else:
        brief(sys.argv[1], *map(int, sys.argv[2:]))
