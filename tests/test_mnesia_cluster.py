"""`MnesiaStore` over several nodes: made, joined, lost, restarted, partitioned."""

from __future__ import annotations

import time

import numpy as np
import pytest
from servers import erlang

import zarrcy
from zarrcy.errors import StoreError, UnavailableError
from zarrcy.stores import mnesia_table
from zarrcy.stores.erlang_terms import Atom
from zarrcy.stores.mnesia import MnesiaStore

ITEMS = np.arange(100).reshape(10, 10)


@pytest.fixture
def nodes():
    """Two nodes that know nothing of each other; Mnesia runs on neither."""
    nodes = [erlang.Node(), erlang.Node()]
    yield nodes
    for node in nodes:
        node.stop()


def names(nodes):
    return [node.name for node in nodes]


def info(node, item):
    return node.call("mnesia", "system_info", Atom(item))


def table_info(node, table, item):
    return node.call("mnesia", "table_info", Atom(table), Atom(item))


def make(nodes, **options):
    options = {"array_id": "shared_array", "table_name": "zarr_arrays", "nodes": names(nodes), **options}
    array = zarrcy.create(shape=(10, 10), chunks=(5, 5), dtype="int64", storage="mnesia", **options)
    array[...] = ITEMS
    return array


def read(**options):
    array = zarrcy.open(storage="mnesia", array_id="shared_array", table_name="zarr_arrays", mode="r", **options)
    return array[...]


def test_the_distributed_example_of_the_guide_works_as_written(nodes):
    """Nodes are started and joined, the schema is put on disc, each has a replica; one is lost; all are restarted."""
    first, second = nodes
    assert [info(node, "is_running") for node in nodes] == ["no", "no"]
    array = zarrcy.create(
        shape=(10, 10),
        chunks=(5, 5),
        dtype="int64",
        storage="mnesia",
        array_id="shared_array",
        table_name="zarr_arrays",
        nodes=[first.name, second.name],
        ram_copies=False,  # Use disc_copies for persistence
    )
    array[...] = ITEMS
    for node in nodes:
        assert sorted(info(node, "running_db_nodes")) == sorted(names(nodes))
        for table in ("schema", "zarr_arrays"):
            assert sorted(table_info(node, table, "disc_copies")) == sorted(names(nodes))
    assert (read(node=second.name) == ITEMS).all()

    # The node that the store talks to is lost: reads and writes go on, with the other.
    first.kill()
    assert (array[...] == ITEMS).all()
    array[0, 0] = -1
    assert (read(nodes=names(nodes)) == array[...]).all()
    # It comes back, and has what it missed.
    first.restart()
    assert read(node=first.name)[0, 0] == -1
    assert (array[...] == read(node=first.name)).all()

    # All are lost at once, and started again.
    for node in nodes:
        node.kill()
    with pytest.raises(UnavailableError, match="no node can be reached"):
        array[...]
    for node in nodes:
        node.restart(mnesia=False)
    # Whoever names the nodes has Mnesia started on them.
    assert read(nodes=names(nodes))[0, 0] == -1
    assert (array[1:] == ITEMS[1:]).all()


def test_open_without_nodes_changes_no_schema(nodes):
    first, second = nodes
    for node in nodes:
        node.start_mnesia()
    zarrcy.create(shape=(4,), dtype="int8", storage="mnesia", array_id="a", node=first.name)[...] = 1

    def schemas():
        source = (
            "[{T, mnesia:table_info(T, version), mnesia:table_info(T, cookie)} || T <- mnesia:system_info(tables)]."
        )
        return [(node.evaluate(source), info(node, "running_db_nodes")) for node in nodes]

    before = schemas()
    array = zarrcy.open(storage="mnesia", array_id="a", node=first.name)
    array[...] = 2
    array.attrs["a"] = 1
    array.resize(8)
    # Creating an array in a table that is there changes none either.
    zarrcy.create(shape=(4,), dtype="int8", storage="mnesia", array_id="b", node=first.name)[...] = 1
    with pytest.raises(StoreError, match="expected the table"):
        zarrcy.open(storage="mnesia", array_id="a", node=second.name)
    assert schemas() == before


def test_a_table_in_memory_leaves_the_schema_in_memory(nodes):
    make(nodes, ram_copies=True)
    for node in nodes:
        assert sorted(table_info(node, "zarr_arrays", "ram_copies")) == sorted(names(nodes))
        assert table_info(node, "schema", "storage_type") == "ram_copies"
    nodes[0].kill()
    assert (read(node=nodes[1].name) == ITEMS).all()


def test_a_table_gets_the_replicas_that_are_missing(nodes):
    first, second = nodes
    make([first])
    assert table_info(first, "zarr_arrays", "disc_copies") == [first.name]
    make(nodes, array_id="another")
    assert sorted(table_info(first, "zarr_arrays", "disc_copies")) == sorted(names(nodes))
    first.kill()
    assert (read(node=second.name) == ITEMS).all()


def test_nodes_with_tables_of_their_own_are_not_joined(nodes):
    for node in nodes:
        node.start_mnesia()
        node.evaluate("mnesia:create_table(own, [{disc_copies, [node()]}]).")
    with pytest.raises(StoreError, match=f"expected {nodes[1].name} to join {nodes[0].name}"):
        make(nodes)


def test_a_table_that_was_just_made_survives_the_loss_of_all_nodes(nodes):
    store = MnesiaStore("a", nodes=names(nodes))
    store.prepare()
    for node in nodes:
        node.kill()
    for node in nodes:
        node.restart()
    assert list(store.list_prefix()) == []
    store.set("a", b"1")
    assert store.get("a") == b"1"


def test_a_restarted_node_is_connected_again(nodes):
    first = nodes[0]
    array = make([first])
    for _ in range(2):
        first.restart()
        assert (array[...] == ITEMS).all()
        first.restart()
        array[0, 0] = 0
    store = array.store
    version = store.get_with_version("zarr.json")[1]
    value = store.get("zarr.json")
    first.restart()
    # The version is of the value, not of the node's run.
    assert store.set_if("zarr.json", value, version) == version


# ---- partitions


def part(nodes):
    """Cut the two apart, as a broken network would; both go on running."""
    first, second = nodes
    for node, other in ((first, second), (second, first)):
        node.evaluate("erlang:set_cookie(Other, apart).", Other=Atom(other.name))
    first.evaluate("erlang:disconnect_node(Other).", Other=Atom(second.name))
    wait_until(lambda: all(info(node, "running_db_nodes") == [node.name] for node in nodes))


def heal(nodes):
    first, second = nodes
    cookie = Atom(first.cluster.cookie)
    for node, other in ((first, second), (second, first)):
        node.evaluate("erlang:set_cookie(Other, Cookie).", Other=Atom(other.name), Cookie=cookie)
    assert first.call("net_kernel", "connect_node", Atom(second.name)) == "true"


def wait_until(is_so):
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_partitioned_table_is_an_error_that_says_so(nodes, monkeypatch):
    assert mnesia_table.FRESH_SECONDS <= 1
    monkeypatch.setattr(mnesia_table, "FRESH_SECONDS", 0.1)
    first, second = nodes
    array = make(nodes)
    store = array.store
    at = {node: MnesiaStore("shared_array", node.name, table_name="zarr_arrays") for node in nodes}
    version = store.get_with_version("zarr.json")[1]
    part(nodes)
    time.sleep(0.1)

    def every_call_is_refused():
        for each in (store, *at.values()):
            for call in (
                lambda each=each: each.get("c/0/0"),
                lambda each=each: each.get("absent"),
                lambda each=each: each.size("c/0/0"),
                lambda each=each: each.get_with_version("c/0/0"),
                lambda each=each: list(each.list_prefix()),
                lambda each=each: each.set("c/0/0", b"lost"),
                lambda each=each: each.delete("c/0/0"),
                lambda each=each: each.set_if("zarr.json", b"lost", version),
                lambda each=each: zarrcy.open(each),
            ):
                with pytest.raises(StoreError, match="partitioned") as caught:
                    call()
                assert caught.value.code == "partitioned"
                assert first.name in str(caught.value) and second.name in str(caught.value)
                assert "set_master_nodes" in caught.value.hint

    # While they are apart, and this side reaches both; and when they see each other again: Mnesia does not mend it.
    every_call_is_refused()
    heal(nodes)
    assert second.name in first.call("erlang", "nodes") and info(first, "running_db_nodes") == [first.name]
    every_call_is_refused()
    # What the hint says mends it; nothing was written meanwhile.
    assert second.call("mnesia", "set_master_nodes", [Atom(first.name)]) == "ok"
    second.call("mnesia", "stop")
    second.call("mnesia", "start")
    for each in (store, *at.values()):
        assert (zarrcy.open(each)[...] == ITEMS).all()


def test_a_partition_behind_a_known_loss_is_noticed(nodes, monkeypatch):
    """A replica that was taken for lost, and shows up again apart from the others, is looked into at once."""
    monkeypatch.setattr(mnesia_table, "RECHECK_SECONDS", 3600.0)
    monkeypatch.setattr(mnesia_table, "FRESH_SECONDS", 0.0)
    first, second = nodes
    make(nodes)
    store = MnesiaStore("shared_array", first.name, table_name="zarr_arrays")
    part(nodes)
    # As if the client were on the first node's side of the cut.
    with monkeypatch.context() as patch:
        connect = store._nodes.connect

        def one_side(name, *args):
            if name == second.name:
                raise UnavailableError("expected a connection, got none")
            return connect(name, *args)

        patch.setattr(store._nodes, "connect", one_side)
        assert store.get("c/0/0") is not None
        store.set("c/0/0", b"written on one side")
    heal(nodes)
    with pytest.raises(StoreError, match="partitioned"):
        store.get("c/0/0")


def test_a_table_that_wants_a_majority_refuses_without_one(nodes):
    first, second = nodes
    array = make(nodes)
    first.evaluate("mnesia:change_table_majority(zarr_arrays, true).")
    assert [node.call("mnesia", "dump_log") for node in nodes] == ["dumped", "dumped"]
    second.kill()
    assert (read(node=first.name) == ITEMS).all()
    with pytest.raises(UnavailableError, match="majority"):
        array[0, 0] = 1
    second.restart()
    assert second.call("mnesia", "wait_for_tables", [Atom("zarr_arrays")], 20_000) == "ok"
    array[0, 0] = 1
    assert read(node=second.name)[0, 0] == 1
