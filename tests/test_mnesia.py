"""`MnesiaStore` on live nodes: the records that ExZarr shares, transactions, connections, errors, the cookie."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
from servers import erlang

import zarrcy
from zarrcy.errors import (
    ConflictError,
    OutcomeUnknownError,
    PermissionDeniedError,
    StoreError,
    UnavailableError,
)
from zarrcy.stores import mnesia_nodes
from zarrcy.stores.erlang_terms import Atom, decode
from zarrcy.stores.mnesia import MAX_VALUE_NBYTES, MnesiaStore, key_of, record_of
from zarrcy.testing import STORE_LAWS

EXZARR = Path(__file__).parent / "data" / "exzarr"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def node():
    return erlang.server()[0]


@pytest.fixture
def store(node):
    """A store with an array of its own."""
    store = MnesiaStore(f"own {next(_numbers)}", node.name, table_name="own")
    store.prepare()
    yield store
    store.close()


def records(node, table, array_id):
    """The records of an array as Erlang sees them."""
    pattern = "[{{Tab, {Id, '_'}, '_'}, [], ['$_']}]"
    return node.evaluate(f"lists:sort(mnesia:dirty_select(Tab, {pattern})).", Tab=Atom(table), Id=array_id.encode())


# ---- the records


def test_the_table_that_exzarr_wrote_reads_as_an_array(node):
    text = (EXZARR / "mnesia_zarr_storage.txt").read_text()
    # The table has a name of its own here, so that it is nobody else's.
    path = node.directory / "exzarr.txt"
    path.write_text(text.replace("zarr_storage", "from_exzarr"))
    assert node.call("mnesia", "load_textfile", list(map(ord, str(path)))) == ("atomic", "ok")
    array = zarrcy.open(storage="mnesia", node=node.name, table_name="from_exzarr", array_id="experiment_001", mode="r")
    assert array.metadata.zarr_format == 2 and array.chunks == (7, 16)
    assert (array[...] == np.arange(1200).reshape(30, 40) * 0.5).all()
    assert sorted(array.store.list_dir())[:2] == [".zarray", "0.0"]
    # And it is written to, where ExZarr's records are.
    array = zarrcy.open(storage="mnesia", node=node.name, table_name="from_exzarr", array_id="experiment_001")
    before = records(node, "from_exzarr", "experiment_001")
    array[0:7, 0:16] = -1
    after = records(node, "from_exzarr", "experiment_001")
    assert [record[1] for record in before] == [record[1] for record in after]
    assert sum(old != new for old, new in zip(before, after)) == 1
    assert (array[0:8, 0] == [-1] * 7 + [140]).all()


def test_zarrcy_writes_the_records_that_exzarr_writes(node):
    """The same array, the same codec: the same keys, and values that inflate to the same."""
    import json
    import zlib

    theirs = {record[1][1]: record[2] for record in decode((EXZARR / "mnesia_zarr_storage.etf").read_bytes())}
    zarrcy.create(
        shape=(30, 40),
        chunks=(7, 16),
        dtype="float64",
        fill_value=0,
        compressor={"id": "zlib", "level": 5},
        zarr_format=2,
        storage="mnesia",
        node=node.name,
        array_id="experiment_001",
        table_name="shape_of_records",
    )[...] = np.arange(1200).reshape(30, 40) * 0.5
    found = records(node, "shape_of_records", "experiment_001")
    assert {record[0] for record in found} == {"shape_of_records"}
    ours = {record[1][1]: record[2] for record in found}
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        if key == "metadata":
            assert json.loads(ours[key]).items() >= json.loads(value).items()
        else:
            assert zlib.decompress(ours[key]) == zlib.decompress(value)
    info = [node.call("mnesia", "table_info", Atom("shape_of_records"), Atom(item)) for item in ("attributes", "arity")]
    assert info == [["key", "data"], 3]
    checked = node.evaluate(
        "lists:all(fun({T, {Id, metadata}, Data}) -> is_atom(T) andalso is_binary(Id) andalso is_binary(Data);"
        "             ({T, {Id, {chunk, {I, J}}}, Data}) ->"
        "                 is_atom(T) andalso is_binary(Id) andalso is_integer(I + J) andalso is_binary(Data) end,"
        "          mnesia:dirty_match_object({shape_of_records, '_', '_'}))."
    )
    assert checked == "true"


def test_what_exzarr_has_no_record_for_lies_beside_in_records_of_its_own(node, store):
    group = zarrcy.create_group(store)
    group.attrs["a"] = 1
    group.create_array("b", shape=(4, 4), chunks=(2, 2), shards=(4, 4), dtype="int8")[...] = 7
    kinds = {record[1][1] for record in records(node, "own", store.array_id)}
    assert kinds == {("key", key) for key in (b"zarr.json", b"b/zarr.json", b"b/c/0/0")}
    assert (zarrcy.open(store)["b"][...] == 7).all()


KEYS = {
    ".zarray": "metadata",
    "0": ("chunk", (0,)),
    "10.2.0": ("chunk", (10, 2, 0)),
    ".zattrs": ("key", b".zattrs"),
    "c/0/1": ("key", b"c/0/1"),
    "00": ("key", b"00"),
    "1.02": ("key", b"1.02"),
    "a/0.0": ("key", b"a/0.0"),
    "a/.zarray": ("key", b"a/.zarray"),
    "1.": ("key", b"1."),
    "-1.0": ("key", b"-1.0"),
    "٣.٣": ("key", "٣.٣".encode()),
}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_has_one_record_and_a_record_one_key(key):
    assert record_of(key) == KEYS[key]
    assert key_of(record_of(key)) == key


def test_records_of_others_are_not_listed(node, store):
    for second in ("lock", "{chunk, []}", "{chunk, {a}}", '{key, <<"0.0">>}', '{key, <<"../x">>}', "{chunk, {-1}}"):
        node.evaluate(f"mnesia:dirty_write(own, {{own, {{Id, {second}}}, <<1>>}}).", Id=store.array_id.encode())
    store.set("c/0", b"1")
    assert list(store.list_prefix()) == ["c/0"]


def test_a_value_of_another_kind_is_an_error(node, store):
    node.evaluate("mnesia:dirty_write(own, {own, {Id, {chunk, {0, 0}}}, [1, 2]}).", Id=store.array_id.encode())
    for call in (store.get, store.size, lambda key: store.get(key, slice(0, 1)), store.get_with_version):
        with pytest.raises(StoreError, match=r"own%20.*0\.0"):
            call("0.0")


def test_two_arrays_in_one_table_do_not_see_each_other(node):
    first, second = (MnesiaStore(name, node.name, table_name="two") for name in ("a", "a2"))
    zarrcy.create_array(first, shape=(4,), chunks=(2,), dtype="int8", zarr_format=2)[...] = 1
    zarrcy.create_array(second, shape=(4,), chunks=(2,), dtype="int8")[...] = 2
    assert zarrcy.open(first)[...].tolist() == [1] * 4 and zarrcy.open(second)[...].tolist() == [2] * 4
    second.delete_prefix("")
    assert list(second.list_prefix()) == [] and len(list(first.list_prefix())) == 3


# ---- names and recipes


def test_the_url_opens_the_same_storage(node):
    store = MnesiaStore("größe/a b?#%2F", node.name, table_name="a table, ü")
    store.prepare()
    store.set("zarr.json", b"{}")
    again = zarrcy.stores.open(store.url)
    assert again == store and again.url == store.url and again.get("zarr.json") == b"{}"
    with pytest.raises(zarrcy.ReadOnlyError):
        zarrcy.stores.open(store.url, mode="r").set("a", b"1")


@pytest.mark.parametrize("url", ["mnesia://n0@h/t", "mnesia://n0@h", "mnesia://n0@h/t/a/b", "mnesia://n0@h//a"])
def test_a_url_of_another_form_is_an_error(url):
    with pytest.raises(StoreError, match="node@host/table/array_id"):
        zarrcy.stores.open(url)


def test_names_that_cannot_be_one_are_refused():
    with pytest.raises(TypeError, match="node: expected"):
        MnesiaStore("a")
    for name in ("n0", "@h", "n0@", "n 0@h", "n0:secret@h", "n0@h/x", "n" * 255 + "@h"):
        with pytest.raises(ValueError, match="name@host") as caught:
            MnesiaStore("a", name)
        assert "secret" not in str(caught.value)
        with pytest.raises(ValueError, match="name@host"):
            MnesiaStore("a", nodes=["n0@h", name])
    for array_id in ("", "a\n", None, 5):
        with pytest.raises(ValueError, match="array_id"):
            MnesiaStore(array_id, "n0@h")
    for table_name in ("", "x" * 256, "\0", "../x", "a/b"):
        with pytest.raises(ValueError, match="table_name"):
            MnesiaStore("a", "n0@h", table_name=table_name)


def test_the_options_open_the_same_storage():
    store = MnesiaStore("a", nodes=["n0@h", "n1@h", "n0@h"], ram_copies=True, durable=False, timeout=5, table_name="t")
    assert store.node == "n0@h" and store.replicas == ("n0@h", "n1@h")
    again = pickle.loads(pickle.dumps(store))
    assert again == store and hash(again) == hash(store) and repr(again) == repr(store)
    assert (again.ram_copies, again.durable, again.timeout, again.table_name) == (True, False, 5, "t")
    assert MnesiaStore("a", "n0@h") != MnesiaStore("b", "n0@h")


# ---- the cookie


CANARY = "CANARY-of-a-cookie"


def test_the_cookie_is_shown_nowhere(node, monkeypatch, caplog):
    """In no repr, text, pickle, message, note, cause, log, or traceback with the local variables of zarrcy."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.delenv(mnesia_nodes.COOKIE_VARIABLE)
    seen = io.StringIO()
    stores = [MnesiaStore("a", node.name, cookie=CANARY), MnesiaStore("a", "gone@127.0.0.1", cookie=CANARY)]
    stores.append(MnesiaStore("a", nodes=[node.name, "gone@127.0.0.1"], cookie=CANARY))
    for store in stores:
        seen.write(f"{store!r} {store} {store.url} {store.options()} {vars(store)} {vars(store._nodes)}")
        seen.write(pickle.dumps(store, 0).decode("latin-1"))
        calls = [store.prepare, lambda store=store: store.get("a"), lambda store=store: store.set("a", b"")]
        calls += [lambda store=store: zarrcy.open(store), lambda store=store: list(store.list_prefix())]
        for call in calls:
            with pytest.raises(StoreError) as caught:
                call()
            stack = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
            seen.writelines(stack.format())
            seen.write(repr(pickle.dumps(caught.value)))
    with pytest.raises(TypeError, match="cookie"):
        pickle.dumps(stores[0]._nodes)
    for bad in (CANARY + "\ud800", CANARY * 100, ""):
        with pytest.raises(ValueError, match="cookie") as failed:
            MnesiaStore("a", node.name, cookie=bad)
        seen.writelines(traceback.format_exception(failed.value))
    text = seen.getvalue() + caplog.text
    assert len(text) > 10_000
    assert CANARY not in text


def test_the_cookie_is_found_in_the_environment_and_in_the_file(node, monkeypatch, tmp_path):
    cookie = os.environ[mnesia_nodes.COOKIE_VARIABLE]
    assert MnesiaStore("a", node.name, cookie=cookie, table_name="own").get("x") is None
    monkeypatch.setenv(mnesia_nodes.COOKIE_VARIABLE, "wrong")
    assert MnesiaStore("a", node.name, cookie=cookie, table_name="own").get("x") is None
    with pytest.raises(PermissionDeniedError):
        MnesiaStore("a", node.name, table_name="own").get("x")
    monkeypatch.delenv(mnesia_nodes.COOKIE_VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreError, match="ZARRCY_MNESIA_COOKIE") as caught:
        MnesiaStore("a", node.name, table_name="own").get("x")
    assert caught.value.code == "no_cookie"
    (tmp_path / ".erlang.cookie").write_text(cookie + "\n")
    assert MnesiaStore("a", node.name, table_name="own").get("x") is None


def test_a_pickle_has_no_cookie_and_the_other_process_finds_its_own(node, store):
    with_cookie = MnesiaStore(store.array_id, node.name, table_name="own", cookie=node.cluster.cookie)
    data = pickle.dumps(with_cookie)
    assert node.cluster.cookie.encode() not in data
    store.set("a", b"1")
    assert pickle.loads(data).get("a") == b"1"


# ---- errors


def test_a_wrong_cookie_is_refused_and_both_causes_are_named(node):
    with pytest.raises(PermissionDeniedError, match="the cookie is wrong, or the network failed") as caught:
        MnesiaStore("a", node.name, cookie="wrong").get("a")
    assert caught.value.code == "refused" and "ZARRCY_MNESIA_COOKIE" in caught.value.hint
    assert caught.value.key == "a" and node.name in str(caught.value)


def test_a_node_that_is_not_there_is_named(node):
    with pytest.raises(UnavailableError, match=r"gone@127\.0\.0\.1 among the nodes") as caught:
        MnesiaStore("a", "gone@127.0.0.1").get("a")
    assert caught.value.code == "no_node"
    with pytest.raises(UnavailableError, match=r"no node can be reached: .*gone.*gone2"):
        MnesiaStore("a", nodes=["gone@127.0.0.1", "gone2@127.0.0.1"]).get("a")
    with pytest.raises(UnavailableError, match=r"no\.such\.host\.invalid"):
        MnesiaStore("a", "n0@no.such.host.invalid").get("a")


def test_the_port_of_epmd_comes_from_the_environment(node):
    script = f"""
import zarrcy
try:
    zarrcy.open(storage="mnesia", node="{node.name}", array_id="a")
except zarrcy.errors.UnavailableError as error:
    print(error.code, error)
"""
    port = str(erlang.free_port())
    environment = {**os.environ, "ERL_EPMD_PORT": port}
    command = [sys.executable, "-c", script]
    text = subprocess.run(command, check=True, timeout=60, env=environment, capture_output=True, text=True).stdout
    assert text.startswith("no_epmd") and f"127.0.0.1:{port}" in text


def test_a_missing_table_is_an_error_and_not_an_absent_key(node):
    store = MnesiaStore("a", node.name, table_name="nobody_made_it")
    for call in (
        lambda: store.get("a"),
        lambda: store.size("a"),
        lambda: store.exists("a"),
        lambda: store.get("a", slice(0, 1)),
        lambda: store.get_with_version("a"),
        lambda: list(store.list_prefix()),
        lambda: store.delete("a"),
        lambda: store.delete_prefix(""),
        lambda: zarrcy.open(store),
    ):
        with pytest.raises(StoreError, match="nobody_made_it") as caught:
            call()
        assert caught.value.code == "no_table"


def test_the_first_write_makes_the_table(node):
    store = MnesiaStore("a", node.name, table_name="made_by_set")
    store.set("a", b"1")
    assert store.get("a") == b"1"
    other = MnesiaStore("a", node.name, table_name="made_by_set_if")
    other.set_if("a", b"1", None)
    with pytest.raises(ConflictError):
        other.set_if("a", b"1", None)


def test_a_table_of_another_form_is_refused(node):
    for number, form in enumerate(("[{attributes, [key, data, more]}]", "[{type, bag}, {attributes, [key, data]}]")):
        table = f"other{number}"
        node.evaluate(f"mnesia:create_table({table}, {form}).")
        with pytest.raises(StoreError, match="expected a table of records"):
            MnesiaStore("a", node.name, table_name=table).prepare()


def test_a_node_without_mnesia_is_an_error_that_says_so():
    node = erlang.Node()
    try:
        for call in (lambda store: store.get("a"), lambda store: store.set("a", b""), MnesiaStore.prepare):
            with pytest.raises(UnavailableError, match="Mnesia running") as caught:
                call(MnesiaStore("a", node.name))
            assert caught.value.code == "not_running" and "nodes=" in caught.value.hint
        assert node.call("mnesia", "start") == "ok"
        # A schema in memory holds no table on disc; without nodes= nobody changes it.
        with pytest.raises(StoreError, match="bad_type") as failed:
            MnesiaStore("a", node.name).prepare()
        assert "nodes=" in failed.value.hint
        store = MnesiaStore("a", node.name, ram_copies=True)
        zarrcy.create_array(store, shape=(4,), dtype="int8")[...] = 3
        assert zarrcy.open(store)[...].tolist() == [3] * 4
        assert node.call("mnesia", "table_info", Atom("schema"), Atom("storage_type")) == "ram_copies"
    finally:
        node.stop()


def test_a_value_that_is_too_large_is_refused_before_anything_is_written(store):
    large = np.lib.stride_tricks.as_strided(np.zeros(1, "u1"), (MAX_VALUE_NBYTES + 1,), (0,))
    store.set("a", b"1")
    for call in (lambda: store.set("a", large), lambda: store.set_many([("b", b"1"), ("a", large)])):
        with pytest.raises(StoreError, match="at most") as caught:
            call()
        assert caught.value.code == "too_large"
    assert store.get("a") == b"1" and store.get("b") is None


def test_without_the_compiled_module_the_error_says_how_to_get_it():
    script = """
import sys
sys.modules["zarrcy.stores.ei"] = None
import zarrcy
assert "mnesia" in zarrcy.stores.names() and zarrcy.stores.info("mnesia").type == "Database"
try:
    zarrcy.create(shape=(4,), dtype="int8", storage="mnesia", node="n0@127.0.0.1", array_id="a")
except zarrcy.StoreError as error:
    assert error.code == "not_built", error.code
    assert "erlang-dev" in error.hint and "built with Erlang" in str(error)
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


# ---- connections

OF_ZARRCY = 'string:prefix(atom_to_list(N), "zarrcy-") =/= nomatch'


def test_a_connection_that_the_node_closed_is_opened_again(node, store):
    """As after idle ticks that nobody answered: the node disconnects, and no call fails, a conditional one neither."""
    version = store.set_if("a", b"1", None)
    for _ in range(3):
        cut = node.evaluate(f"[erlang:disconnect_node(N) || N <- nodes(hidden), {OF_ZARRCY}].")
        assert "true" in cut
        version = store.set_if("a", b"2", version)
    assert store.get("a") == b"2"


def test_ticks_are_answered_between_calls():
    """The node ticks a connection every quarter of net_ticktime, and hangs up when nothing ever comes back."""
    node = erlang.Node()
    node.call("mnesia", "start")
    store = MnesiaStore("a", node.name, ram_copies=True)
    store.set("a", b"1")
    connection = next(iter(store._nodes._idle.values()))[0]
    assert node.call("net_kernel", "set_net_ticktime", 1, 0) in ("change_initiated", "unchanged")
    try:
        deadline = 40
        while node.evaluate('[N || N <- nodes(hidden), string:prefix(atom_to_list(N), "zarrcy") =/= nomatch].'):
            threading.Event().wait(0.1)
            deadline -= 1
            assert deadline, "the node did not hang up on a silent connection"
        assert not connection.is_alive()
        store.set_if("b", b"1", None)
        again = next(iter(store._nodes._idle.values()))[0]
        for _ in range(15):
            threading.Event().wait(0.1)
            assert again.is_alive()
        assert store.get("b") == b"1"
        assert next(iter(store._nodes._idle.values()))[0] is again
    finally:
        node.stop()


def test_threads_use_as_many_connections_as_call_at_once(store):
    store.set("a", bytes(100_000))
    errors = []

    def work():
        try:
            for _ in range(20):
                assert store.get("a") == bytes(100_000)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert 1 <= sum(map(len, store._nodes._idle.values())) <= 16


@contextlib.contextmanager
def held_table(node):
    """The table is locked by another transaction; gives what lets go of it, which the end does anyway."""
    hold = "fun() -> mnesia:write_lock_table(own), Me ! held, receive go -> ok after 60000 -> ok end end"
    run = f"Me = self(), register(holder, spawn(fun() -> mnesia:transaction({hold}) end)), receive held -> ok end."
    ended = "R = monitor(process, P), P ! go, receive {_, R, _, _, _} -> ok end"
    let_go = f"case whereis(holder) of undefined -> ok; P -> {ended} end."
    assert node.evaluate(run) == "ok"
    try:
        yield lambda: node.evaluate(let_go)
    finally:
        assert node.evaluate(let_go) == "ok"


def test_a_call_without_an_answer_ends_in_time_and_says_what_may_have_happened(node, store):
    store.set("a", b"1")
    version = store.get_with_version("a")[1]
    impatient = MnesiaStore(store.array_id, node.name, table_name="own", timeout=1)
    assert impatient.get("a") == b"1"
    with held_table(node):
        with pytest.raises(OutcomeUnknownError, match="may have been made, or not"):
            impatient.set_if("a", b"2", version)
        with pytest.raises(UnavailableError, match=r"within 1 s"):
            impatient.get("a")
    assert store.get("a") in (b"1", b"2")


@pytest.mark.parametrize("call", ["get", "set", "set_if", "transaction"])
def test_a_connection_that_breaks_during_a_call(node, store, call):
    """What may be done twice is done again; of the rest it is said that nobody knows."""
    store.set("a", b"1")
    version = store.get_with_version("a")[1]
    outcome = []
    ready, held = threading.Event(), threading.Event()

    def in_a_transaction():
        with store.transaction() as tx:
            tx.set("a", tx.get("a") + b"2")
            ready.set()
            assert held.wait(60)

    def work():
        try:
            if call == "transaction":
                in_a_transaction()
            else:
                ready.set()
                assert held.wait(60)
                arguments = {"get": (), "set": (b"2",), "set_if": (b"2", version)}[call]
                outcome.append(getattr(store, call)("a", *arguments))
        except StoreError as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(60)
    with held_table(node) as let_go:
        held.set()
        deadline = time.monotonic() + 60
        # In the queue of the lock it stands only if it began before the other.
        while node.evaluate("length(mnesia:system_info(transactions)).") < 2:
            assert time.monotonic() < deadline, f"the call does not wait for the table: {outcome}"
        assert "true" in node.evaluate(f"[erlang:disconnect_node(N) || N <- nodes(hidden), {OF_ZARRCY}].")
        let_go()
        thread.join()
    if call in ("get", "set"):
        assert outcome == [{"get": b"1", "set": None}[call]]
    else:
        assert isinstance(outcome[0], OutcomeUnknownError), outcome
        assert outcome[0].code == "outcome_unknown"


def test_a_forked_child_opens_its_own_connections(store):
    store.set("a", b"1")
    with store.transaction():
        for _ in range(10):
            child = os.fork()
            if child == 0:
                try:
                    store.set(f"child {os.getpid()}", store.get("a"))
                    os._exit(0)
                finally:
                    os._exit(1)
            # The parent's connection goes on, at the same time.
            assert store.get("a") == b"1"
            assert os.waitpid(child, 0)[1] == 0
            assert store.get(f"child {child}") == b"1"


# ---- transactions


def test_a_transaction_commits_chunks_and_metadata_together(node, store):
    array = zarrcy.create_array(store, shape=(8,), chunks=(2,), dtype="int8", fill_value=0)
    array[...] = 1
    with store.transaction() as tx:
        inside = zarrcy.open(tx)
        inside[...] = 2
        inside.append([2, 2])
        inside.attrs["version"] = 2
        assert inside[...].tolist() == [2] * 10
        assert zarrcy.open(store)[...].tolist() == [1] * 8
    assert zarrcy.open(store)[...].tolist() == [2] * 10
    assert zarrcy.open(store).attrs["version"] == 2


@pytest.mark.parametrize("law", STORE_LAWS)
def test_a_transaction_keeps_the_laws_of_stores(store, law):
    with store.transaction() as tx:
        STORE_LAWS[law](tx)


def test_an_exception_drops_the_changes(store):
    store.set("a", b"1")
    with pytest.raises(ZeroDivisionError), store.transaction() as tx:
        tx.set("a", b"2")
        tx.set("b", b"2")
        tx.delete("a")
        raise ZeroDivisionError
    assert store.get("a") == b"1" and store.get("b") is None


@pytest.mark.parametrize("seen", ["get", "size", "part", "list", "absent", "set_if"])
@pytest.mark.parametrize("other", ["set", "delete"])
def test_a_transaction_that_read_what_another_changed_is_refused(store, seen, other):
    store.set("a", b"1")
    with pytest.raises(ConflictError) as caught, store.transaction() as tx:
        {
            "get": lambda: tx.get("a"),
            "size": lambda: tx.size("a"),
            "part": lambda: tx.get("a", slice(0, 0)),
            "list": lambda: list(tx.list_prefix()),
            "absent": lambda: tx.get("new"),
            "set_if": lambda: tx.set_if("a", b"2", tx.get_with_version("a")[1]),
        }[seen]()
        tx.set("b", b"2")
        key = "new" if seen in ("list", "absent") and other == "set" else "a"
        getattr(store, other)(key, *([b"3"] if other == "set" else []))
        if seen == "absent":
            store.set("new", b"3")
    assert "from the start" in caught.value.__notes__[-1]
    assert store.get("b") is None


def test_what_a_transaction_did_not_read_may_change(store):
    store.set("a", b"1")
    with store.transaction() as tx:
        tx.set("b", tx.get("a"))
        store.set("c", b"3")
        tx.set("c", b"4")
    assert [store.get(key) for key in "abc"] == [b"1", b"1", b"4"]


def test_a_transaction_behaves_like_a_store_and_ends(store):
    store.set("a", b"abc")
    with store.transaction() as tx:
        tx.set("d/e", b"1234")
        tx.delete("a")
        assert tx.get("a") is None and tx.size("d/e") == 4 and tx.get("d/e", slice(-2, None)) == b"34"
        assert list(tx.list_prefix()) == ["d/e"] and list(tx.list_dir()) == ["d/"]
        version = tx.get_with_version("d/e")[1]
        tx.set("d/e", b"5")
        with pytest.raises(ConflictError):
            tx.set_if("d/e", b"6", version)
        with pytest.raises(StoreError, match="transaction of this one"):
            pickle.dumps(tx)
        assert list(store.list_prefix()) == ["a"]
    assert list(store.list_prefix()) == ["d/e"] and store.get("d/e") == b"5"
    for call in (lambda: tx.get("a"), lambda: tx.set("a", b""), lambda: list(tx.list_prefix()), lambda: tx.delete("a")):
        with pytest.raises(StoreError, match="has ended"):
            call()


def test_transactions_of_many_threads_move_money_and_lose_none(store):
    """Eight accounts; each transfer reads and writes two. The sum is the same at every moment."""
    for i in range(8):
        store.set(str(i), b"100")
    errors = []

    def work(number):
        choice = np.random.default_rng(number)
        try:
            for _ in range(10):
                one, other = map(str, choice.choice(8, 2, replace=False))
                while True:
                    with contextlib.suppress(ConflictError), store.transaction() as tx:
                        tx.set(one, b"%d" % (int(tx.get(one)) - 1))
                        tx.set(other, b"%d" % (int(tx.get(other)) + 1))
                        break
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        # A reader in a transaction that changes something sees one moment, or a conflict.
        with contextlib.suppress(ConflictError), store.transaction() as tx:
            total = sum(int(tx.get(str(i))) for i in range(8))
            tx.set("seen", b"%d" % total)
    for thread in threads:
        thread.join()
    assert errors == []
    assert sum(int(store.get(str(i))) for i in range(8)) == 800
    assert store.get("seen") in (None, b"800")
