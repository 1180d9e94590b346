"""The laws of a codec, as a function that checks them: for zarrcy's own tests and for authors of plug-ins."""

from __future__ import annotations

import json
import pickle
import random
import threading
from collections.abc import Iterator

from zarrcy.codecs import from_metadata, registry
from zarrcy.codecs.codec import ChunkSpec, Codec
from zarrcy.errors import CodecError

__all__ = ["check_codec"]

GUARD = b"\xa5" * 256
N_FLIPS = 200
N_THREADS = 8


def check_codec(codec: Codec, spec: ChunkSpec, *, whole_items: bool = False, lossless: bool = True) -> None:
    """Check that a codec keeps the laws: what was encoded comes back, whole and in parts, and no input does harm.

    Parameters
    ----------
    codec : Codec
        The codec.
    spec : ChunkSpec
        Chunks that it can work on; the item size of the data type is used, not the shape.
    whole_items : bool, default False
        The codec only takes values of whole items, so that none of another length are tried.
    lossless : bool, default True
        What was encoded comes back bit for bit. Otherwise only its length does.

    Raises
    ------
    AssertionError
        A law is broken; the message says which, and by what value.

    Examples
    --------
    >>> import numpy as np
    >>> from zarrcy.codecs import ChunkSpec
    >>> from zarrcy.codecs.laws import check_codec
    >>> from zarrcy.codecs.zstd import Zstd
    >>> check_codec(Zstd(level=1), ChunkSpec((100,), np.dtype("float32")))
    """
    bound = codec.bind(spec)
    values = list(_values(max(1, spec.dtype.itemsize), whole_items))
    check_recipe(bound, spec)
    for value in values:
        check_round_trip(bound, value, lossless)
        check_bound(bound, value)
        check_parts(bound, value)
    if bound.decodes_parts:
        check_parts(bound, _long_value())
    for i in (0, 5, 12, 13, 14, 15, 19):  # nothing, one item, and an odd number of each kind
        check_hostile(bound, values[i])
    check_threads(bound, values, lossless)


def check_recipe(codec: Codec, spec: ChunkSpec) -> None:
    """A codec is a recipe: it pickles, compares, hashes, and its configuration makes it again."""
    again = pickle.loads(pickle.dumps(codec))
    assert again == codec, f"a pickle gives another codec: {again!r} for {codec!r}"
    assert hash(again) == hash(codec), f"equal codecs hash differently: {codec!r}"
    assert codec.bind(spec) == codec, f"binding again changes the codec: {codec!r}"
    assert codec != object(), f"the codec equals anything: {codec!r}"
    configuration = json.loads(json.dumps(codec.configuration()))
    if codec.name in registry or codec.name.startswith("numcodecs."):
        again = from_metadata(codec.name, configuration, "codecs[0]").bind(spec)
    else:
        again = type(codec).from_configuration(configuration).bind(spec)
    assert again == codec, f"the configuration gives another codec: {again!r} for {codec!r}"


def check_round_trip(codec: Codec, value: bytes, lossless: bool) -> None:
    """What was encoded comes back, the value stays as it was, and the bounds hold."""
    source = bytearray(value)
    encoded = bytes(codec.encode(memoryview(source).toreadonly()))
    assert source == value, f"encoding changed its input: {codec!r}"
    assert encoded == bytes(codec.encode(memoryview(value))), f"encoding twice gives other bytes: {codec!r}"
    most = codec.max_encoded_nbytes(len(value))
    assert len(encoded) <= most, f"expected at most {most} encoded bytes, got {len(encoded)}: {codec!r}"
    for room in (0, 100):
        decoded = bytes(codec.decode(memoryview(encoded), len(value) + room))
        assert len(decoded) == len(value), f"expected {len(value)} bytes, got {len(decoded)}: {codec!r}"
        assert not lossless or decoded == value, f"expected the value back, got other bytes: {codec!r}"
    assert _decode_guarded(codec, encoded, len(value)) == decoded, f"decode_to gives other bytes: {codec!r}"


def check_bound(codec: Codec, value: bytes) -> None:
    """A value that holds more than there is room for is an error."""
    encoded = bytes(codec.encode(memoryview(value)))
    for capacity in {0, len(value) // 2, len(value) - 1} - {-1, len(value)}:
        decoded = _decode_guarded(codec, encoded, capacity)
        assert decoded is None, f"expected an error for {len(value)} bytes into {capacity}: {codec!r}"


def check_parts(codec: Codec, value: bytes) -> None:
    """A part is that part of the whole, whether its codec looks at all of the encoded bytes or not."""
    chance = random.Random(2025)
    encoded = bytes(codec.encode(memoryview(value)))
    whole = bytes(codec.decode(memoryview(encoded), len(value)))
    for room in (0, 0, 0, 0, 0, 0, 100):
        parts = _parts(chance, len(value))
        for verified in (False, True):
            found = _decode_parts_guarded(codec, encoded, len(value) + room, parts, verified)
            assert found is not None, f"parts {parts} of {len(value)} bytes are refused: {codec!r}"
            expected = [whole[begin:end] for begin, end in parts]
            assert found == expected, f"parts {parts} of {len(value)} bytes are not those of the whole: {codec!r}"


def check_hostile(codec: Codec, value: bytes) -> None:
    """Broken bytes give a CodecError or other bytes: never a crash, a write outside, or another exception."""
    chance = random.Random(2024)
    encoded = bytes(codec.encode(memoryview(value)))
    for _ in range(N_FLIPS):
        broken = bytearray(encoded)
        for _ in range(chance.choice((1, 1, 2, 8))):
            if broken:
                broken[chance.randrange(min(len(broken), chance.choice((32, 1 << 30))))] ^= 1 << chance.randrange(8)
        check_broken(codec, bytes(broken), len(value), _parts(chance, len(value)))
    cuts = {*range(18), *(chance.randrange(len(encoded) + 1) for _ in range(40)), max(0, len(encoded) - 1)}
    for end in cuts:
        check_broken(codec, encoded[:end], len(value), _parts(chance, len(value)))
    for _ in range(40):
        _decode_guarded(codec, chance.randbytes(chance.randrange(200)), len(value))
        _decode_guarded(codec, encoded + chance.randbytes(1 + chance.randrange(20)), len(value))


def check_broken(codec: Codec, encoded: bytes, capacity: int, parts: list[tuple[int, int]]) -> None:
    """Broken bytes that decode in parts and as a whole give the same: no part comes from bytes not looked at."""
    whole = _decode_guarded(codec, encoded, capacity)
    for verified in (False, True):
        found = _decode_parts_guarded(codec, encoded, capacity, parts, verified)
        if whole is not None and found is not None:
            expected = [whole[begin:end] for begin, end in parts]
            found = [part[: len(whole[begin:end])] for part, (begin, end) in zip(found, parts, strict=True)]
            assert found == expected, f"parts {parts} of broken bytes are not those of the whole: {codec!r}"


def check_threads(codec: Codec, values: list[bytes], lossless: bool) -> None:
    """Many threads at once give what one gives."""
    expected = [bytes(codec.encode(memoryview(value))) for value in values]
    faults: list[str] = []

    def work(shift: int) -> None:
        for i in range(len(values)):
            k = (i + shift) % len(values)
            if bytes(codec.encode(memoryview(values[k]))) != expected[k]:
                faults.append(f"encoding in threads gives other bytes: {codec!r}")
            decoded = bytes(codec.decode(memoryview(expected[k]), len(values[k])))
            if lossless and decoded != values[k]:
                faults.append(f"decoding in threads gives other bytes: {codec!r}")

    threads = [threading.Thread(target=work, args=(shift,)) for shift in range(N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults[0]


def _values(itemsize: int, whole_items: bool) -> Iterator[bytes]:
    """Values of no, one, an odd and many items, each of several kinds; small ones first."""
    chance = random.Random(2023)
    for n in (0, 1, 3, 2400 // itemsize | 1, 80_000 // itemsize | 1):
        nbytes = n * itemsize
        yield bytes(nbytes)
        yield chance.randbytes(nbytes)
        yield (bytes(range(256)) * (nbytes // 256 + 1))[:nbytes]
        yield b"".join((i // 3 % 50).to_bytes(itemsize, "little") for i in range(n))
    if not whole_items:
        for nbytes in (1, 7, 4095, 65_537):
            yield chance.randbytes(nbytes)
            yield b"\x01" * nbytes


def _long_value() -> bytes:
    """A value of several blocks, whatever the codec calls a block."""
    chance = random.Random(2026)
    steps = [chance.randbytes(64) for _ in range(64)]
    return b"".join(steps[i * i % 61] + (i // 7).to_bytes(4, "little") for i in range(24_000))


def _parts(chance: random.Random, nbytes: int) -> list[tuple[int, int]]:
    """Up to four parts of a value, in any order; they may overlap."""
    parts = []
    for _ in range(chance.randrange(1, 5)):
        begin = chance.randrange(max(nbytes, 1))
        parts.append((begin, min(nbytes, begin + 1 + chance.randrange(chance.choice((1, 100, 1 << 30))))))
    return [part for part in parts if part[0] < part[1]]


def _decode_parts_guarded(
    codec: Codec, encoded: bytes, capacity: int, parts: list[tuple[int, int]], verified: bool
) -> list[bytes] | None:
    """The parts, or None when they are refused; nothing may be written around the destination."""
    memory = bytearray(GUARD + bytes(capacity) + GUARD)
    out = memoryview(memory)[len(GUARD) : len(GUARD) + capacity]
    try:
        nbytes, _ = codec.decode_part_to(encoded, out, parts, verified=verified)
    except CodecError:
        nbytes = -1
    assert memory.startswith(GUARD), f"wrote in front of the destination: {codec!r}"
    assert memory.endswith(GUARD), f"wrote behind the destination: {codec!r}"
    if nbytes < 0:
        return None
    assert nbytes <= capacity, f"expected at most {capacity} bytes, got {nbytes}: {codec!r}"
    return [bytes(out[begin:end]) for begin, end in parts]


def _decode_guarded(codec: Codec, encoded: bytes, capacity: int) -> bytes | None:
    """What the bytes decode to, or None when they are refused; nothing may be written around the destination."""
    memory = bytearray(GUARD + bytes(capacity) + GUARD)
    out = memoryview(memory)[len(GUARD) : len(GUARD) + capacity]
    try:
        nbytes = codec.decode_to(encoded, out)
    except CodecError:
        nbytes = None
    assert memory.startswith(GUARD), f"wrote in front of the destination: {codec!r}"
    assert memory.endswith(GUARD), f"wrote behind the destination: {codec!r}"
    if nbytes is None:
        return None
    assert nbytes <= capacity, f"expected at most {capacity} bytes, got {nbytes}: {codec!r}"
    return bytes(out[:nbytes])
