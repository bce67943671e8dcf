"""A process that adds, compacts and indexes a store until it is killed, and prints what is done.

Usage: ``python gallery_writer.py STORE FIRST``; prints a line once a batch is committed.
"""

from __future__ import annotations

import sys
from itertools import count

import stores

BATCH = 250


def main(path: str, first: int) -> None:
    gallery = stores.open_gallery(path)
    print("ready", flush=True)
    for start in count(first, BATCH):
        rows = [stores.row(str(number), number) for number in range(start, start + BATCH)]
        gallery.store.merge(rows, insert=True)
        print(start, flush=True)
        if (start // BATCH) % 3 == 1:
            gallery.compact()
            print("compacted", flush=True)
        if (start // BATCH) % 3 == 2 and len(gallery) >= 1000:
            gallery.build_index(recall=0.5)
            print("indexed", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
