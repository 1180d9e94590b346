"""How much memory and time calls take, measured in a process of their own: a script for the tests, on Linux.

usage: array_memory.py bombs PATH | peak PATH read|write KIND | remote URL ENDPOINT
"""

import gzip
import json
import struct
import sys
import time
import zlib
from functools import partial

import numpy as np
import zstandard

import zarrcy
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore

MIB = 1 << 20


def status(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def grown(call):
    """How much more memory than before the call was in use at most during it, and the seconds that it took."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    before = status("VmRSS")
    begin = time.perf_counter()
    call()
    return status("VmHWM") - before, time.perf_counter() - begin


def named(name, **configuration):
    return {"name": name, "configuration": configuration}


def bomb_values():
    """Values of a few KiB or MiB that decode to 256 MiB or more, with the codecs that decode them, inside out."""
    zeros = bytes(64 * MIB)
    stream = zstandard.ZstdCompressor(level=1, write_content_size=False).compressobj()
    unsized = b"".join([*(stream.compress(zeros) for _ in range(4)), stream.flush()])
    sized = zstandard.ZstdCompressor(level=1).compress(bytes(256 * MIB))
    deflated = zlib.compressobj(9, wbits=31)
    gzipped = b"".join([*(deflated.compress(zeros) for _ in range(4)), deflated.flush()])
    blosc = zarrcy.codecs.registry.get("blosc")(cname="zstd", clevel=1, shuffle="noshuffle", typesize=1).encode(
        bytes(256 * MIB)
    )
    zstd, gz = named("zstd", level=1, checksum=False), named("gzip", level=1)
    blosc_codec = named("blosc", cname="zstd", clevel=1, shuffle="noshuffle", typesize=1, blocksize=0)
    return [
        ("zstd without a size", [zstd], unsized),
        ("zstd with a size", [zstd], sized),
        (
            "zstd that lies about its size",
            [zstd],
            zstandard.ZstdCompressor(level=1).compress(bytes(4096))[:5] + sized[5:],
        ),
        ("gzip", [gz], gzipped),
        ("gzip of many members", [gz], gzip.compress(bytes(4096)) * 3000),
        ("blosc", [blosc_codec], blosc),
        ("blosc with a lying header", [blosc_codec], blosc[:4] + struct.pack("<I", 4096) + blosc[8:]),
        ("zstd in zstd", [zstd, zstd], zstandard.ZstdCompressor(level=1).compress(unsized)),
        ("zstd in gzip", [zstd, gz], gzip.compress(unsized)),
        ("bz2", [named("numcodecs.bz2", level=1)], __import__("bz2").compress(bytes(16 * MIB)) * 4),
    ]


def sparse_files(path):
    """Files that promise much and hold nothing, as chunks and as chunks of a shard."""
    index = [named("bytes", endian="little"), {"name": "crc32c"}]
    chain = [named("bytes", endian="little")]
    shard = named("sharding_indexed", chunk_shape=[1024], codecs=chain, index_codecs=index)
    for number, (codecs, chunk) in enumerate(
        [(chain, 1024), ([*chain, named("zstd", level=1)], 1024), ([shard], 2048)]
    ):
        array = zarrcy.create_array(f"{path}/sparse{number}", shape=2048, chunks=chunk, dtype="float32", codecs=codecs)
        array.store.set("c/0", b"")
        entries = zarrcy.codecs.registry.get("crc32c")().encode(struct.pack("<4Q", 0, 2**33, 2**64 - 1, 2**64 - 1))
        with open(f"{path}/sparse{number}/c/0", "r+b") as file:
            file.truncate(2**33)
            file.seek(0, 2)
            file.write(bytes(entries))
        for call in (array.__getitem__, array.__setitem__) if chunk == 1024 else (array.__getitem__,):
            errors = []
            growth, seconds = grown(partial(collect_error, errors, call))
            assert isinstance(errors[0], zarrcy.CodecError), errors
            assert growth <= 16 * MIB and seconds < 1, (growth, seconds)


def collect_error(errors, call):
    try:
        errors.append(call(0) if call.__name__ == "__getitem__" else call(0, 1))
    except Exception as error:
        errors.append(error)


def bombs(path):
    """Bombs as chunks, and as chunks in a shard: each is a typed error, soon, and memory grows by 16 MiB at most."""
    worst = (0, 0.0)
    sparse_files(path)
    for number, (name, steps, value) in enumerate(bomb_values()):
        chain = [named("bytes", endian="little"), *steps]
        index = [named("bytes", endian="little"), {"name": "crc32c"}]
        shard = named("sharding_indexed", chunk_shape=[1024], codecs=chain, index_codecs=index)
        whole = zarrcy.codecs.registry.get("crc32c")().encode(struct.pack("<4Q", 0, len(value), 2**64 - 1, 2**64 - 1))
        for codecs, chunk, stored in [
            (chain, 1024, value),
            ([shard], 2048, value + bytes(whole)),
            ([shard, *steps], 2048, value),
        ]:
            for store in (MemoryStore(), FilesystemStore(f"{path}/{number}-{len(codecs)}-{chunk}")):
                array = zarrcy.create_array(store, shape=2048, chunks=chunk, dtype="float32", codecs=codecs)
                store.set("c/0", stored)
                n_errors = 0

                def read(array=array):
                    nonlocal n_errors
                    for key in (slice(None), 5, [3, 900]):
                        try:
                            array[key]
                        except zarrcy.CodecError as error:
                            assert error.key == "c/0" and error.store == array.store.url, error
                            n_errors += 1

                growth, seconds = grown(read)
                worst = max(worst[0], growth), max(worst[1], seconds)
                assert n_errors == 3, f"{name}, {len(codecs)} codecs, {store!r}: {n_errors} errors of 3"
                assert growth <= 16 * MIB + chunk * 4, f"{name} in {store!r}: grew by {growth / MIB:.0f} MiB"
                assert seconds < 1, f"{name} in {store!r}: took {seconds:.1f} s"
    print(json.dumps({"growth": worst[0], "seconds": worst[1]}))


def peak(path, action, kind):
    """The peak of reading or writing 256 MiB in chunks of 1 MiB, beyond the items themselves."""
    options = {"chunks": 2**18, "compressor": "auto"}
    if kind == "shards":
        options["shards"] = 2**21
    store = MemoryStore() if kind == "memory" else FilesystemStore(path)
    array = zarrcy.create_array(store, shape=2**26, dtype="float32", **options)
    items = np.random.default_rng(0).integers(0, 1000, 2**26, "int32").astype("float32")
    if action == "read":
        array[:] = items
        out = np.empty(2**26, "float32")
        out[:] = 0
        growth, _ = grown(lambda: array.get_slice(out=out))
        assert (out == items).all()
    else:
        growth, _ = grown(lambda: array.__setitem__(slice(None), items))
        if kind == "memory":
            growth -= array.nbytes_stored
    print(json.dumps({"growth": growth}))


def remote(url, endpoint):
    """The peak of reading an array of a service as a whole, beyond the items themselves."""
    array = zarrcy.open_array(url, endpoint_url=endpoint, mode="r")
    out = np.empty(array.shape, array.dtype)
    out[...] = 1
    growth, _ = grown(lambda: array.get_slice(out=out))
    print(json.dumps({"growth": growth, "total": int(out.sum(dtype="u8"))}))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
