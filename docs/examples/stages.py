"""Development, staging, production: the same program over memory, a directory and S3.

python docs/examples/stages.py development
python docs/examples/stages.py staging /mnt/staging/arrays/test_array
python docs/examples/stages.py production prod-zarr-data
"""

import datetime
import sys

import numpy as np

import zarrcy

SHAPE, CHUNKS = (1000, 1000), (100, 1000)


def development():
    """Memory: fast, and gone when the process ends."""
    return {"storage": "memory"}


def staging(path):
    """A directory: every chunk can be looked at."""
    return {"storage": "filesystem", "path": path}


def production(bucket):
    """S3: as large and as shared as it gets. Region, endpoint and credentials come from the environment."""
    return {"storage": "s3", "bucket": bucket, "prefix": f"arrays/{datetime.date.today()}"}


STAGES = {"development": development, "staging": staging, "production": production}


def run(options):
    """The program: it makes an array, fills it by rows of chunks, and reads a part of it. It knows no storage."""
    array = zarrcy.create(shape=SHAPE, chunks=CHUNKS, dtype="float64", compressor="zstd", **options)
    for begin in range(0, SHAPE[0], CHUNKS[0]):
        array[begin : begin + CHUNKS[0]] = np.sin(np.arange(begin, begin + CHUNKS[0]))[:, np.newaxis]
    return array, float(array[250:750, 10].mean())


def main(stage, *place):
    array, mean = run(STAGES[stage](*place))
    print(f"{array.store.url}: mean {mean:.6f}, {array.nbytes_stored:,} bytes stored")


if __name__ == "__main__":
    main(*sys.argv[1:])
