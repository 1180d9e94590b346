"""Weighs the codec chains that new arrays could have by default, and prints a Markdown table.

    python benchmarks/default_chain.py [--flips 10000] [--repeats 9]

Each chain encodes and decodes chunks of 1 MiB of climate-like fields. Then bits of encoded chunks are flipped, one at a
time, and chunks are cut short. A change is *noticed* when decoding fails, *harmless* when it gives the same values, and
*silent* when it gives others. The rule of the decision is in `decide`, its record in
docs/decisions/0001-default-codec-chain.md.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zarrcy.codecs import ChunkSpec, Codec
from zarrcy.codecs.blosc import Blosc
from zarrcy.codecs.checksums import Crc32c
from zarrcy.codecs.deflate import Gzip
from zarrcy.codecs.zstd import Zstd
from zarrcy.errors import CodecError

Chain = tuple[Codec, ...]

CHAINS: dict[str, Chain] = {
    "zstd 1, checksum": (Zstd(1, checksum=True),),
    "zstd 3, checksum": (Zstd(3, checksum=True),),
    "zstd 5, checksum": (Zstd(5, checksum=True),),
    "zstd 3 + crc32c": (Zstd(3, checksum=False), Crc32c()),
    "blosc lz4 5, shuffle + crc32c": (Blosc("lz4", 5), Crc32c()),
    "blosc lz4 5, bitshuffle + crc32c": (Blosc("lz4", 5, "bitshuffle"), Crc32c()),
    "blosc zstd 1, shuffle + crc32c": (Blosc("zstd", 1), Crc32c()),
    "blosc zstd 3, shuffle + crc32c": (Blosc("zstd", 3), Crc32c()),
    "blosc zstd 5, shuffle + crc32c": (Blosc("zstd", 5), Crc32c()),
    "blosc zstd 1, bitshuffle + crc32c": (Blosc("zstd", 1, "bitshuffle"), Crc32c()),
    "gzip 5": (Gzip(5),),
    "zstd 3, no checksum": (Zstd(3, checksum=False),),
    "blosc zstd 5, shuffle, no checksum": (Blosc("zstd", 5),),
}

# A medium between a network drive and a local one: what a saved byte is worth, in bytes per second.
MEDIUM = 400e6


def fields(nbytes: int = 1 << 20) -> dict[str, np.ndarray]:
    """Chunks of `nbytes` that look like the variables of climate data sets."""
    rng = np.random.default_rng(20240229)

    def smooth(n: int) -> np.ndarray:
        side = int(n**0.5)
        y, x = np.mgrid[0:side, 0:side] / side
        waves = [(rng.normal(), *rng.uniform(1, 12, 2), *rng.uniform(0, 6, 2)) for _ in range(12)]
        return sum(a * np.cos(u * x + p) * np.sin(v * y + q) for a, u, v, p, q in waves)

    temperature = 280 + 12 * smooth(nbytes // 4)
    ocean = np.where(smooth(nbytes // 4) > 0, temperature, 1e20)
    rain = np.clip(smooth(nbytes // 4) - 1.5, 0, None) * rng.gamma(1, 1, temperature.shape)
    return {
        "temperature, float32": (temperature + rng.normal(0, 0.05, temperature.shape)).astype("f4"),
        "temperature, two decimals, float32": np.round(temperature + rng.normal(0, 0.05, temperature.shape), 2).astype(
            "f4"
        ),
        "ocean with mask, float32": ocean.astype("f4"),
        "rain, mostly zero, float32": rain.astype("f4"),
        "pressure, float64": 1e5 + 900 * smooth(nbytes // 8) + rng.normal(0, 1, (int((nbytes // 8) ** 0.5),) * 2),
        "packed, int16": np.round(
            900 * smooth(nbytes // 2) + rng.normal(0, 3, (int((nbytes // 2) ** 0.5),) * 2)
        ).astype("i2"),
        "time, int64": np.cumsum(rng.choice([3600, 3600, 3600, 7200], nbytes // 8)).astype("i8"),
    }


@dataclass(frozen=True)
class Weight:
    """What a chain costs and notices; speeds are in MB/s of decoded data."""

    name: str
    encode_speed: float
    decode_speed: float
    ratio: float
    n_flips: int
    noticed_flips: int
    silent_flips: int
    n_cuts: int
    silent_cuts: int

    @property
    def read_speed(self) -> float:
        """MB/s of decoded data, from the medium through the decoder."""
        return 1e-6 / (1 / (self.ratio * MEDIUM) + 1e-6 / self.decode_speed)

    @property
    def write_speed(self) -> float:
        return 1e-6 / (1 / (self.ratio * MEDIUM) + 1e-6 / self.encode_speed)


def weigh_damage(name: str, n_flips: int, n_cuts: int) -> tuple[int, int, int]:
    """How many flipped bits a chain notices, how many are silent, and how many truncations are silent."""
    noticed = silent = silent_cuts = 0
    # The damage is done to chunks of 16 KiB, of which there is time to try more; a checksum does not mind the length.
    small = [array.reshape(-1)[: 16384 // array.itemsize] for array in fields().values()]
    for i, array in enumerate(small):
        share = [n // len(small) + (i < n % len(small)) for n in (n_flips, n_cuts)]
        result = damage(bound_chain(CHAINS[name], array), array.tobytes(), *share)
        noticed, silent, silent_cuts = noticed + result[0], silent + result[1], silent_cuts + result[2]
    return noticed, silent, silent_cuts


def encode(chain: Chain, data: bytes) -> bytes:
    for codec in chain:
        data = codec.encode(data)
    return data


def decode(chain: Chain, data: bytes, nbytes: int) -> bytes:
    bounds = [nbytes]
    for codec in chain[:-1]:
        bounds.append(codec.max_encoded_nbytes(bounds[-1]))
    for codec, bound in zip(reversed(chain), reversed(bounds)):
        data = codec.decode(data, bound)
    return data


def bound_chain(chain: Chain, array: np.ndarray) -> Chain:
    spec = ChunkSpec(array.shape, array.dtype)
    return tuple(codec.bind(spec) for codec in chain)


def weigh(name: str, n_flips: int, n_cuts: int, repeats: int) -> Weight:
    """The weight of one chain over all fields."""
    n_bytes = n_encoded = 0
    encode_time = decode_time = 0.0
    for array in fields().values():
        chain = bound_chain(CHAINS[name], array)
        data = array.tobytes()
        encoded = encode(chain, data)
        assert decode(chain, encoded, len(data)) == data
        encode_time += _median_time(repeats, encode, chain, data)
        decode_time += _median_time(repeats, decode, chain, encoded, len(data))
        n_bytes += len(data)
        n_encoded += len(encoded)
    noticed, silent, silent_cuts = weigh_damage(name, n_flips, n_cuts)
    return Weight(
        name,
        n_bytes / encode_time / 1e6,
        n_bytes / decode_time / 1e6,
        n_bytes / n_encoded,
        n_flips,
        noticed,
        silent,
        n_cuts,
        silent_cuts,
    )


def damage(chain: Chain, data: bytes, n_flips: int, n_cuts: int) -> tuple[int, int, int]:
    """How many flipped bits were noticed, how many were silent, and how many truncations were silent."""
    chance = random.Random(7)
    encoded = encode(chain, data)
    flips = [_outcome(chain, _flipped(encoded, chance), data) for _ in range(n_flips)]
    cuts = [_outcome(chain, encoded[: chance.randrange(len(encoded))], data) for _ in range(n_cuts)]
    return flips.count("noticed"), flips.count("silent"), cuts.count("silent")


def _flipped(encoded: bytes, chance: random.Random) -> bytes:
    broken = bytearray(encoded)
    bit = chance.randrange(8 * len(broken))
    broken[bit // 8] ^= 1 << bit % 8
    return bytes(broken)


def _outcome(chain: Chain, encoded: bytes, data: bytes) -> str:
    try:
        decoded = decode(chain, encoded, len(data))
    except CodecError:
        return "noticed"
    if len(decoded) != len(data):  # the pipeline refuses a chunk of another length
        return "noticed"
    return "harmless" if decoded == data else "silent"


def _median_time(repeats: int, call: Callable[..., bytes], *arguments: object) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call(*arguments)
        times.append(time.process_time() - start)
    return statistics.median(times)


def decide(weights: list[Weight]) -> str:
    """The chain to take: without a silent change, and the fastest in reading and writing alike (geometric mean)."""
    sound = [weight for weight in weights if weight.silent_flips == 0 and weight.silent_cuts == 0]
    return max(sound, key=lambda weight: (weight.read_speed * weight.write_speed) ** 0.5).name


def table(weights: list[Weight]) -> str:
    """The weights as a Markdown table."""
    titles = ["chain", "encode MB/s", "decode MB/s", "ratio", "read MB/s", "write MB/s"]
    titles += ["flips noticed", "silent flips", "silent cuts"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for w in weights:
        lines.append(
            f"| {w.name} | {w.encode_speed:.0f} | {w.decode_speed:.0f} | {w.ratio:.2f} | {w.read_speed:.0f} | "
            f"{w.write_speed:.0f} | {w.noticed_flips} of {w.n_flips} | {w.silent_flips} | "
            f"{w.silent_cuts} of {w.n_cuts} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=10_000, help="bit flips, and truncations, to try on each chain")
    parser.add_argument("--repeats", type=int, default=9, help="how often to time each field; the median counts")
    arguments = parser.parse_args()
    weights = [weigh(name, arguments.flips, arguments.flips, arguments.repeats) for name in CHAINS]
    print(table(weights))
    print(f"\nDecision: {decide(weights)}")


if __name__ == "__main__":
    main()
