"""Erlang's external term format: what a node writes is read, what is cut or made up is refused."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import erlang

from zarrcy.stores.erlang_terms import Atom, Encoded, ExternalFun, decode, encode

EXZARR = Path(__file__).parent / "data" / "exzarr" / "mnesia_zarr_storage.etf"

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=255)
atoms = names.map(Atom)
scalars = st.one_of(atoms, st.integers(-(2**2000), 2**2000), st.floats(allow_nan=False), st.binary(max_size=300))
terms = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.lists(inner, max_size=6).map(tuple)),
    max_leaves=20,
)


@given(terms)
def test_a_term_comes_back_as_it_was(term):
    again = decode(encode(term))
    assert again == term and type(again) is type(term)


@given(terms, st.data())
def test_a_term_that_was_cut_is_refused(term, data):
    encoded = encode(term)
    n = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(ValueError, match="term"):
        decode(encoded[:n])


@given(st.binary(max_size=60))
def test_any_bytes_are_a_term_or_refused(data):
    for version in (b"", b"\x83"):
        with contextlib.suppress(ValueError):
            decode(version + data)


@given(terms, st.data())
def test_a_damaged_term_is_another_term_or_refused(term, data):
    encoded = bytearray(encode(term))
    for _ in range(3):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        decode(encoded)


@pytest.mark.parametrize("tag", [b"l", b"i", b"t"])
def test_a_length_that_cannot_be_true_takes_no_memory(tag):
    with pytest.raises(ValueError, match="expected"):
        decode(b"\x83" + tag + b"\xff\xff\xff\xf0" + bytes(100))


def test_deep_terms_are_refused():
    with pytest.raises(ValueError, match="levels"):
        decode(b"\x83" + b"h\x01" * 100_000 + b"j")


def test_what_is_no_term_is_refused():
    for value in ("text", None, {1: 2}, object(), 1j):
        with pytest.raises(TypeError, match="term"):
            encode(value)
    for value in (Atom("x" * 256), 1 << 2100):
        with pytest.raises(ValueError, match="at most 255"):
            encode(value)


def test_buffers_are_binaries():
    assert decode(encode([bytearray(b"ab"), memoryview(b"cd"), b""])) == [b"ab", b"cd", b""]
    assert decode(memoryview(encode(b"x" * 3_000_000))) == b"x" * 3_000_000


@pytest.mark.servers
def test_a_node_writes_and_reads_every_kind_of_term():
    node = erlang.server()[0]
    source = """[1, -1, 255, 256, -2147483648, 2147483648, 1 bsl 70, -(1 bsl 2400), 1.5, 'größe', <<"abc">>, <<>>, [],
        {}, "text", [1|[]], {a, {b}}, list_to_tuple(lists:seq(1, 300)), lists:seq(1, 70000)]."""
    got = node.evaluate(source)
    assert got[:8] == [1, -1, 255, 256, -(2**31), 2**31, 2**70, -(2**2400)]
    assert got[8:15] == [1.5, "größe", b"abc", b"", [], (), list(b"text")]
    assert got[15:] == [[1], ("a", ("b",)), tuple(range(1, 301)), list(range(1, 70001))]
    # What has no form in Python comes back to the node as the same term.
    strange = "[self(), make_ref(), hd(erlang:ports()), fun lists:map/2, fun(X) -> X end, #{a => 1}, <<1:3>>, [a | b]]"
    terms = node.evaluate(f"T = {strange}, persistent_term:put(strange, T), T.")
    assert all(type(term) is Encoded for term in terms)
    assert node.evaluate("Terms =:= persistent_term:get(strange).", Terms=terms) == "true"
    assert node.call("erlang", "apply", ExternalFun("lists", "sum", 1), [[1, 2, 3]]) == 6


@pytest.mark.servers
def test_a_node_reads_what_was_encoded():
    node = erlang.server()[0]
    term = [Atom("größe"), -(2**63), 2**64, (b"\x00\xff", os.urandom(1000)), [], (), 0.1, True]
    assert node.call("erlang", "binary_to_term", encode(term)) == [*term[:-1], "true"]


def test_the_table_that_exzarr_wrote_is_read():
    records = decode(EXZARR.read_bytes())
    assert len(records) == 16
    assert {record[0] for record in records} == {"zarr_storage"}
    assert {record[1][0] for record in records} == {b"experiment_001"}
