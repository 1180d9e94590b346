"""The decision about the default chain of codecs, measured again."""

import importlib.util
import sys
from pathlib import Path

import pytest

DECISION = "blosc lz4 5, shuffle + crc32c"


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parent.parent / "benchmarks" / "default_chain.py"
    spec = importlib.util.spec_from_file_location("default_chain", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["default_chain"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["default_chain"]


@pytest.mark.bounds
def test_the_default_chain_is_still_the_one_that_measuring_chooses(benchmark):
    names = ("zstd 1, checksum", DECISION, "blosc lz4 5, bitshuffle + crc32c", "blosc zstd 1, shuffle + crc32c")
    weights = [benchmark.weigh(name, 200, 200, 3) for name in names]
    assert benchmark.decide(weights) == DECISION, benchmark.table(weights)


def test_the_default_chain_notices_10000_flipped_bits_and_10000_cuts(benchmark):
    assert benchmark.weigh_damage(DECISION, 10_000, 10_000) == (10_000, 0, 0)


def test_without_a_checksum_flipped_bits_are_silent(benchmark):
    noticed, silent, _ = benchmark.weigh_damage("zstd 3, no checksum", 500, 0)
    assert silent > 250 > noticed
