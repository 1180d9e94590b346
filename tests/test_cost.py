"""What arrays cost: the guide's example, tiers, and what is said of small and large chunks."""

from __future__ import annotations

import datetime
import json
import math
import re
from pathlib import Path

import pytest

import zarrcy
from zarrcy import cost
from zarrcy.cli import main
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.wrapper import WrapperStore


def test_the_example_of_the_guide_to_the_cent():
    it = cost.estimate("s3", nbytes=40e9, n_objects=5000, writes=1, reads=10)
    assert [round(part, 3) for part in (it.storage, it.put, it.get, it.egress)] == [0.92, 0.025, 0.02, 36.0]
    assert round(it.total, 3) == 36.965


def test_a_reduction_by_40_percent_leaves_60_gb():
    # The guide says 40 GB of 100 after "40 % reduction".
    it = cost.estimate("s3", nbytes=100e9 * (1 - 0.4), n_objects=5000, reads=10)
    assert (round(it.storage, 2), round(it.egress, 2)) == (1.38, 54.0)


def test_puts_are_priced_as_puts():
    # The guide's example on chunk sizes takes the price of a GET: 0.05 for 125,000.
    assert round(cost.estimate("s3", nbytes=0, n_objects=125_000).put, 3) == 0.625
    assert round(cost.estimate("s3", nbytes=0, n_objects=1250).put, 5) == 0.00625


@pytest.mark.parametrize(
    ("service", "tb", "dollars"),
    [("s3", 10, 900), ("s3", 60, 900 + 3400 + 700), ("gcs", 2, 120 + 110), ("azure_blob", 10, 870), ("s3", 0, 0)],
)
def test_what_leaves_is_priced_by_tiers(service, tb, dollars):
    assert cost.estimate(service, nbytes=tb * 1e12, n_objects=1, reads=1).egress == pytest.approx(dollars)


def test_tiers_add_up_whatever_the_steps():
    prices = cost.PRICES["s3"]
    n = 170e12
    steps = [prices.egress_cost(n * (i + 1) / 97) - prices.egress_cost(n * i / 97) for i in range(97)]
    assert sum(steps) == pytest.approx(prices.egress_cost(n)) and all(step > 0 for step in steps)


def test_an_allowance_is_taken_off_when_it_is_left():
    assert cost.estimate("s3", nbytes=40e9, n_objects=1, reads=10, free_egress=True).egress == pytest.approx(27)
    assert cost.estimate("s3", nbytes=4e9, n_objects=1, reads=10, free_egress=True).egress == 0


def test_a_listing_costs_one_request_for_each_thousand():
    assert cost.estimate("s3", nbytes=0, n_objects=2001, writes=0, listings=1000).total == pytest.approx(0.015)


def test_prices_of_ones_own():
    own = cost.Prices("here", 1, 2, 3, 4, (cost.Tier(0, 5),))
    it = cost.estimate("gcs", nbytes=2e9, n_objects=1000, writes=1, reads=1, listings=1000, prices=own)
    assert (it.storage, it.put, it.get, it.list, it.egress) == (2, 2, 3, 4, 10)
    # They need no list prices beside them, and are not shown as such.
    assert cost.estimate("own cloud", nbytes=2e9, n_objects=1000, prices=own).storage == 2
    assert str(it).startswith("US$ a month, gcs, here\n") and cost.PRICES_DATE not in str(it)


@pytest.mark.parametrize("wrong", [{"nbytes": -1}, {"reads": float("nan")}, {"writes": -0.5}])
def test_numbers_below_zero_are_refused(wrong):
    with pytest.raises(ValueError, match="expected 0 or more"):
        cost.estimate("s3", **{"nbytes": 1, "n_objects": 1, **wrong})


def test_a_service_without_prices_is_refused():
    with pytest.raises(ValueError, match="expected one of s3, gcs, azure_blob"):
        cost.estimate("ftp", nbytes=1, n_objects=1)


def test_the_date_of_the_prices_is_shown():
    text = str(cost.estimate("gcs", nbytes=1e9, n_objects=1))
    assert cost.PRICES_DATE in text and datetime.date.fromisoformat(cost.PRICES_DATE)


def test_chunks_of_one_to_ten_mb_need_no_advice():
    for service in cost.PRICES:
        for nbytes in cost.GOOD_NBYTES:
            assert cost.advise(service, chunk_nbytes=nbytes, n_objects=10**6) is None
    assert cost.advise("s3", chunk_nbytes=1000, n_objects=100) is None
    assert "US$ 0.75" in cost.advise("s3", chunk_nbytes=80_000, n_objects=150_000)
    assert "shards" in cost.advise("gcs", chunk_nbytes=1e9, n_objects=10)


class Priced(MemoryStore):
    """Memory that is charged for as S3 is."""

    priced_as = "s3"


def test_auto_aims_at_1_to_10_mb_where_each_chunk_is_an_object():
    for dtype in ("uint8", "float32", "complex128"):
        array = zarrcy.create_array(Priced(), shape=(4000, 5000, 60), dtype=dtype)
        assert 1e6 <= math.prod(array.chunks) * array.dtype.itemsize <= 10e6
    assert math.prod(zarrcy.create_array({}, shape=(4000, 5000), dtype="uint8").chunks) <= 2**20
    # An object is a shard there.
    array = zarrcy.create_array(Priced(), shape=(4096, 4096), dtype="uint8", shards=(4096, 4096))
    assert math.prod(array.chunks) <= 2**20
    assert zarrcy.create_array(Priced(), shape=100, dtype="int8").chunks == (100,)


def test_a_warning_tells_the_price_of_small_chunks():
    with pytest.warns(zarrcy.ChunkSizeWarning, match="writing all costs US"):
        zarrcy.create_array(Priced(), shape=(10_000, 10_000), chunks=(10, 100), dtype="float64")
    with pytest.warns(zarrcy.ChunkSizeWarning, match="one item read from outside"):
        zarrcy.create_array(WrapperStore(Priced()), shape=(10_000, 10_000), chunks=False, dtype="float64")
    zarrcy.create_array(Priced(), shape=(10, 10), chunks=(1, 1))
    zarrcy.create_array({}, shape=(10_000, 10_000), chunks=(10, 100))


def test_the_command_counts_what_is_stored_below_a_group(tmp_path, capsys):
    root = zarrcy.create_group(tmp_path / "a.zarr")
    root.create_array("x", shape=20, chunks=2, dtype="int8")[:10] = 1
    root.create_array("g/y", shape=20, shards=10, chunks=2, dtype="int8")[:] = 1
    assert main(["cost", str(tmp_path / "a.zarr"), "--reads", "1000", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_objects"] == 7 and found["nbytes_stored"] == sum(a.nbytes_stored for a in (root["x"], root["g/y"]))
    assert [round(each["get"], 6) for each in found["estimates"]] == [0.0028, 0.0028, 0.00308]


def test_the_table_in_the_documentation_shows_these_prices():
    page = (Path(__file__).resolve().parent.parent / "docs" / "costs.md").read_text()
    assert cost.PRICES_DATE in page
    rows = [line.split("|")[1:-1] for line in page.splitlines() if re.match(r"\| (S3|GCS|Azure), ", line)]
    for prices, row in zip(cost.PRICES.values(), rows, strict=True):
        assert row[0].strip().split(", ", 1)[1] == prices.region
        assert [float(cell) for cell in row[1:5]] == [prices.storage, prices.put, prices.get, prices.list]
        tiers = [(tier.begin // cost.TB, tier.price) for tier in prices.egress]
        first, *others = re.findall(r"(?:(\d+) TB )?(0\.\d+)", row[5])
        assert [(int(begin or 0), float(price)) for begin, price in (first, *others)] == tiers
