"""Hybrid storage: an array in S3, and a local directory that keeps what was read of it.

python docs/examples/hybrid.py s3://prod-data/experiments/array1 /tmp/cache
"""

import sys

import zarrcy
from zarrcy.stores import CachedStore, FilesystemStore


def open_cached(url, directory, max_nbytes=10 << 30):
    """The array of a URL, through a cache that is checked against the remote version at every read, and bounded."""
    cache = FilesystemStore(directory)
    cache.prepare()
    store = CachedStore(zarrcy.stores.open(url), cache, max_nbytes=max_nbytes)
    return zarrcy.open_array(store, mode="r")


def main(url, directory):
    array = open_cached(url, directory)
    for what in ("first", "second"):
        before = array.store.stats()
        array[...]
        now = array.store.stats()
        print(f"{what} read: {now.hits - before.hits} from the cache, {now.misses - before.misses} from the service")


if __name__ == "__main__":
    main(*sys.argv[1:])
