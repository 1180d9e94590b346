"""Several regions: an array is written in one, and copied to buckets in others.

    python docs/examples/regions.py s3://zarr-us-west-2/arrays s3://zarr-us-east-1/arrays s3://zarr-eu-west-1/arrays

Again, it copies what has changed since; after a crash it goes on where it stopped.
"""

import sys

import numpy as np

import zarrcy
from zarrcy.stores import copy_store


def ingest(url):
    """Make the array in its first region."""
    array = zarrcy.create_array(url, shape=(1000, 1000), chunks=(250, 1000), dtype="float32", overwrite=True)
    array[...] = np.arange(1000, dtype="float32")
    return array


def replicate(url, others):
    """Bring the other regions up to date, all at once; each value is read back and compared."""
    source, targets = zarrcy.stores.open(url), [zarrcy.stores.open(other) for other in others]

    def show(n_done, n):
        print(f"\r{n_done} of {n} keys", end="", file=sys.stderr)

    return copy_store(source, *targets, progress=show)


def main(url, *others):
    ingest(url)
    done = replicate(url, others)
    print(f"{done.copied} values copied, {done.unchanged} were there already")


if __name__ == "__main__":
    main(*sys.argv[1:])
