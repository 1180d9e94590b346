"""Inner chunks that lie close together in a shard are read by one call, wherever they lie."""

from __future__ import annotations

import numpy as np
import pytest

import zarrcy
from zarrcy.errors import ZarrcyError
from zarrcy.kernels.checksum import crc32c_of

ABSENT = 2**64 - 1


def shuffled(path, order, gaps):
    """Lay the inner chunks of a shard out anew: in another order, with gaps between them."""
    data = path.read_bytes()
    n = len(order)
    index = np.frombuffer(data[-16 * n - 4 : -4], "<u8").reshape(n, 2).copy()
    laid = b""
    for entry, gap in zip(order, gaps, strict=True):
        offset, nbytes = index[entry]
        if offset == ABSENT:
            continue
        laid += b"\xaa" * gap
        index[entry, 0] = len(laid)
        laid += data[int(offset) : int(offset + nbytes)]
    encoded = index.tobytes()
    path.write_bytes(laid + encoded + crc32c_of(encoded).to_bytes(4, "little"))


@pytest.mark.parametrize("chunk", [40, 500, 5000])
@pytest.mark.parametrize("codec", ["zstd", "blosc"])
def test_chunks_are_found_in_any_order_with_any_gaps(tmp_path, chunk, codec):
    random = np.random.default_rng(chunk)
    n = 64
    items = random.integers(0, 60, n * chunk).astype("u2")
    for absent in (3, 4, 17, 63):
        items[absent * chunk : (absent + 1) * chunk] = 0
    a = zarrcy.create_array(
        tmp_path / "a", shape=n * chunk, shards=n * chunk, chunks=chunk, dtype="u2", compressor={"id": codec}
    )
    a[...] = items
    path = tmp_path / "a/c/0"
    orders = [np.arange(n), np.arange(n)[::-1], random.permutation(n), np.roll(np.arange(n), 20)]
    for order in orders:
        for largest in (0, 100, 9000):
            shuffled(path, order, random.integers(0, largest + 1, n))
            a = zarrcy.open_array(tmp_path / "a", mode="r")
            assert (a[...] == items).all()
            for _ in range(10):
                begin, end = np.sort(random.integers(0, n * chunk, 2))
                step = int(random.integers(1, 4 * chunk))
                assert (a[begin:end] == items[begin:end]).all()
                assert (a[begin:end:step] == items[begin:end:step]).all()


def test_a_damaged_chunk_among_neighbours_is_an_error_and_its_neighbours_are_read(tmp_path):
    items = np.arange(64_000, dtype="u2")
    a = zarrcy.create_array(tmp_path / "a", shape=64_000, shards=64_000, chunks=1000, dtype="u2")
    a[...] = items
    path = tmp_path / "a/c/0"
    data = bytearray(path.read_bytes())
    index = np.frombuffer(bytes(data[-16 * 64 - 4 : -4]), "<u8").reshape(64, 2)
    data[int(index[30].sum()) - 2] ^= 1
    path.write_bytes(data)
    a = zarrcy.open_array(tmp_path / "a", mode="r")
    assert (a[:30_000] == items[:30_000]).all() and (a[31_000:] == items[31_000:]).all()
    with pytest.raises(ZarrcyError, match="c/0"):
        a[...]
