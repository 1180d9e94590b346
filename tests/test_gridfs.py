"""`GridFSStore`: its layout, what plain GridFS clients see and write, parts, versions, and who may connect."""

import itertools
import pickle
import socket
import subprocess
import sys

import gridfs
import numpy as np
import pytest
import servers.mongodb
from servers.certificates import Authority
from servers.mongodb import DATABASE, PASSWORD

import zarrcy
from zarrcy.errors import ChecksumError, ConflictError, PermissionDeniedError, StoreError, UnavailableError
from zarrcy.stores.gridfs import GridFSStore
from zarrcy.stores.gridfs_writing import chunk_index_of
from zarrcy.stores.mongo_url import MongoURL

numbers = itertools.count()


@pytest.fixture
def store():
    with GridFSStore(servers.mongodb.server().url(), bucket=f"b{next(numbers)}", array_id="exp_001") as store:
        yield store


@pytest.fixture
def database():
    with servers.mongodb.server().root() as client:
        yield client[DATABASE]


@pytest.fixture
def plain(store, database):
    return gridfs.GridFS(database, store.bucket)


# The layout, and other clients of GridFS


def test_an_array_lies_in_files_that_are_called_by_array_and_key(database):
    url = servers.mongodb.server().url()
    for zarr_format, names in ((3, ["c/0/0", "c/0/1", "zarr.json"]), (2, [".zarray", ".zattrs", "0.0", "0.1"])):
        array = zarrcy.create(
            shape=(2, 4),
            chunks=(2, 2),
            dtype="i4",
            zarr_format=zarr_format,
            storage="mongo_gridfs",
            url=url,
            database=DATABASE,
            bucket="arrays",
            array_id=f"experiment_{zarr_format}",
        )
        array[:] = np.arange(8).reshape(2, 4)
        files = {each["filename"] for each in database["arrays.files"].find()}
        assert {f"experiment_{zarr_format}/{name}" for name in names} - {"experiment_2/.zattrs"} <= files
        assert zarrcy.open(array.store.url)[1, 3] == 7


def test_a_plain_client_reads_the_current_value(store, plain):
    for value in (b"old", b"", b"new" * 200_000):
        store.set("c/0", value)
        assert plain.get_last_version("exp_001/c/0").read() == value
        assert len(list(plain.find({"filename": "exp_001/c/0"}))) == 1
    assert plain.list() == ["exp_001/c/0"]
    store.delete("c/0")
    assert plain.list() == []


def test_files_that_other_clients_wrote_are_values(store, plain):
    plain.put(b"older", filename="exp_001/c/0")
    plain.put(b"foreign" * 100_000, filename="exp_001/c/0")
    plain.put(b"{}", filename="exp_001/zarr.json", metadata=None)
    plain.put(b"x", filename="exp_0011/zarr.json")
    plain.put(b"x", filename="exp_001/no//key")
    assert store.get("c/0") == b"foreign" * 100_000
    assert store.get("c/0", slice(-7, None)) == b"foreign" and store.size("c/0") == 700_000
    assert list(store.list_prefix()) == ["c/0", "zarr.json"] and list(store.list_dir()) == ["c/", "zarr.json"]
    assert dict(store.get_many([("c/0", slice(0, 3)), ("c/1", None)])) == {0: b"for", 1: None}
    version = store.get_with_version("zarr.json")[1]
    with pytest.raises(ConflictError):
        store.set_if("zarr.json", b"1", None)
    second = store.set_if("zarr.json", b"[]", version)
    assert store.get_with_version("zarr.json") == (b"[]", second)
    with pytest.raises(ConflictError):
        store.set_if("zarr.json", b"2", version)
    store.set("c/0", b"ours")
    assert store.get("c/0") == plain.get_last_version("exp_001/c/0").read() == b"ours"
    assert list(store.list_prefix()) == ["c/0", "zarr.json"]
    store.delete("c/0")
    assert store.get("c/0") is None and list(store.list_prefix()) == ["zarr.json"]
    store.delete_prefix("")
    assert sorted(plain.list()) == ["exp_001/no//key", "exp_0011/zarr.json"]


def test_the_files_can_be_queried(store, database):
    store.set("temperature/c/3/12", b"abc")
    store.set("temperature/zarr.json", b"{}")
    files = database[f"{store.bucket}.files"]
    found = files.find_one({"metadata.array_id": "exp_001", "metadata.chunk_index": [3, 12]})
    assert found["filename"] == "exp_001/temperature/c/3/12" and found["length"] == 3
    assert found["metadata"] == {
        "array_id": "exp_001",
        "key": "temperature/c/3/12",
        "chunk_index": [3, 12],
        "crc32c": 0x364B3FB7,
    }
    plan = files.find({"metadata.array_id": "exp_001", "metadata.key": "temperature/zarr.json"}).explain()
    assert "IXSCAN" in str(plan["queryPlanner"]["winningPlan"])


@pytest.mark.parametrize(
    ("key", "index"),
    [
        ("c/0/12", [0, 12]),
        ("a/c/7", [7]),
        ("a/c.1.2", [1, 2]),
        ("a/0.12", [0, 12]),
        ("5/0.12", [0, 12]),
        ("0", [0]),
        ("a/1/2", [1, 2]),
        ("c", None),
        ("a/zarr.json", None),
        ("a1/b2", None),
        ("1.", None),
    ],
)
def test_the_chunk_index_is_taken_from_the_key(key, index):
    assert chunk_index_of(key) == index


def test_stores_with_other_ids_share_a_bucket(store):
    other = GridFSStore(servers.mongodb.server().url(), bucket=store.bucket, array_id="exp_0011")
    store.set("c/0", b"1")
    other.set("c/0", b"2")
    other.delete_prefix("")
    assert store.get("c/0") == b"1" and list(other.list_prefix()) == []
    assert store.repair() == [] and other.repair() == []
    other.close()


# Values, parts, versions


def test_a_value_may_be_larger_than_a_document(store):
    value = np.random.default_rng(1).bytes(40 << 20)
    store.set("c/0", value)
    assert store.get("c/0") == value
    assert store.get("c/0", slice(-5, None)) == value[-5:]


def test_a_part_reads_only_the_chunks_that_hold_it(store, database):
    value = np.random.default_rng(2).bytes(8 << 20)
    store.set("c/0", value)
    database.command("profile", 2)
    try:
        part = slice(3 * 255 * 1024 - 10, 4 * 255 * 1024 + 10)
        assert store.get("c/0", part) == value[part]
        query = {"ns": f"{DATABASE}.{store.bucket}.chunks", "op": "query"}
        seen = [(each["nreturned"], each["docsExamined"]) for each in database["system.profile"].find(query)]
    finally:
        database.command("profile", 0)
    assert seen == [(3, 3)]


def n_answers(store, database, read):
    """How many answers with chunks `read` takes."""
    database.command("profile", 2)
    try:
        read()
        return database["system.profile"].count_documents({"ns": f"{DATABASE}.{store.bucket}.chunks"})
    finally:
        database.command("profile", 0)
        database.drop_collection("system.profile")


def test_small_chunks_come_in_one_answer_and_large_ones_in_answers_of_four_mebibytes(store, plain, database):
    for i in range(64):
        store.set(f"small/{i}", b"%d" % i)
    keys = [(f"small/{i}", None) for i in range(64)]
    assert n_answers(store, database, lambda: list(store.get_many(keys))) == 1
    plain.put(bytes(1 << 20), filename="exp_001/foreign", chunk_size=4096)
    assert n_answers(store, database, lambda: store.get("foreign")) == 1
    for nbytes, n in ((1, 1), (4 << 20, 1), (8 << 20, 2), (20 << 20, 5)):
        store.set("large", bytes(nbytes))
        assert n_answers(store, database, lambda: store.get("large")) == n
        assert n_answers(store, database, lambda: list(store.get_many([("large", None)]))) == n


@pytest.mark.parametrize("n", [1, 255 * 1024 - 1, 255 * 1024, 255 * 1024 + 1, 600_000])
def test_a_flipped_bit_is_found_in_the_whole_and_in_a_part(store, database, n):
    value = np.random.default_rng(n).bytes(n)
    store.set("c/0", value)
    chunks = database[f"{store.bucket}.chunks"]
    last = chunks.find_one({}, sort=[("n", -1)])
    data = bytearray(last["data"])
    data[-1] ^= 16
    chunks.update_one({"_id": last["_id"]}, {"$set": {"data": bytes(data)}})
    for part in (None, slice(-1, None)):
        with pytest.raises(ChecksumError, match=r"c/0: chunk \d: expected CRC-32C"):
            store.get("c/0", part)
    with pytest.raises(ChecksumError):
        list(store.get_many([("c/0", None)]))
    if last["n"]:
        assert store.get("c/0", slice(0, 10)) == value[:10]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("chunks", {"$set": {"data": b"1"}}),
        ("current", {"$inc": {"length": 1}}),
        ("current", {"$set": {"crc32c": b"abcd"}}),
        ("current", {"$unset": {"file": ""}}),
    ],
)
def test_a_damaged_document_is_an_error_and_not_an_absent_key(store, database, name, change):
    store.set("c/0", b"12")
    database[f"{store.bucket}.{name}"].update_one({}, change)
    with pytest.raises(ChecksumError) as caught:
        store.get("c/0")
    assert caught.value.code == "corrupt" and caught.value.key == "c/0"


def test_missing_chunks_are_an_error_and_not_an_absent_key(store, database):
    store.set("c/0", b"12")
    database[f"{store.bucket}.chunks"].delete_many({})
    with pytest.raises(ChecksumError, match="chunk 0 is missing"):
        store.get("c/0")


def test_two_racing_creators_have_one_winner(store):
    from concurrent.futures import ThreadPoolExecutor

    def create(i):
        try:
            return store.set_if("c/0", b"%d" % i, None), i
        except ConflictError:
            return None

    with ThreadPoolExecutor(16) as pool:
        for _ in range(10):
            (winner,) = [each for each in pool.map(create, range(16)) if each]
            assert store.get_with_version("c/0") == (b"%d" % winner[1], winner[0])
            store.delete("c/0")
    assert store.repair() == []


def test_a_reader_that_began_on_a_replaced_file_reads_the_new_one(store, monkeypatch):
    store.set("c/0", b"old" * 200_000)
    read = store._bucket.read

    def replaced_meanwhile(*arguments):
        monkeypatch.setattr(store._bucket, "read", read)
        store.set("c/0", b"new" * 100_000)
        store.set("c/1", b"")  # when a majority has this, it has the removal of the old chunks too
        return read(*arguments)

    monkeypatch.setattr(store._bucket, "read", replaced_meanwhile)
    assert store.get("c/0") == b"new" * 100_000


def test_it_works_on_a_server_that_is_in_no_replica_set():
    members = servers.mongodb.Members(0)
    try:
        with GridFSStore(members.url(), array_id="a") as store:
            version = store.set_if("c/0", b"1", None)
            store.set_if("c/0", b"2", version)
            store.set("c/0", b"3")
            store.set_many([("c/1", b"4"), ("c/0", b"5")])
            store.delete("c/1")
            assert store.get("c/0") == b"5" and list(store.list_prefix()) == ["c/0"]
            assert store.repair() == []
    finally:
        members.stop()


# Who may connect, and where to


def error_of(url, call=lambda store: store.get("c/0"), **options):
    with GridFSStore(url, array_id="a", **options) as store, pytest.raises(StoreError) as caught:
        call(store)
    for text in (str(caught.value), repr(caught.value), "".join(caught.value.__notes__), repr(caught.value.__cause__)):
        assert PASSWORD not in text and "canary" not in text
    return caught.value


def test_a_wrong_password_is_permission_denied():
    error = error_of(servers.mongodb.server().url(password="canary 2"))
    assert isinstance(error, PermissionDeniedError) and error.code == "authentication_failed"
    error = error_of(servers.mongodb.server().url(user="nobody"))
    assert isinstance(error, PermissionDeniedError) and error.code == "authentication_failed"


def test_a_missing_role_is_permission_denied():
    url = servers.mongodb.server().url(user="stranger")
    for call in (lambda store: store.get("c/0"), lambda store: list(store.list_prefix()), lambda s: s.set("c/0", b"1")):
        error = error_of(url, call)
        assert isinstance(error, PermissionDeniedError) and error.code == "unauthorized"
        assert "readWrite" in error.hint
    error = error_of(servers.mongodb.server().url(user="reader"), lambda store: store.set("c/0", b"1"))
    assert isinstance(error, PermissionDeniedError) and error.code == "unauthorized"
    with GridFSStore(servers.mongodb.server().url(user="reader"), array_id="a") as store:
        assert store.get("c/0") is None


QUICK = "serverSelectionTimeoutMS=1000&connectTimeoutMS=1000"


def test_a_host_that_does_not_answer_is_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = error_of(f"mongodb://u:{'canary'}@127.0.0.1:{port}/lab?{QUICK}")
        assert isinstance(error, UnavailableError) and error.code == "unreachable"
    error = error_of(f"mongodb://u:{'canary'}@127.0.0.1:{port}/lab?{QUICK}", lambda store: store.set("c/0", b"1"))
    assert isinstance(error, UnavailableError) and error.code == "unreachable"


def test_a_host_that_is_unknown_is_unavailable():
    for url in (
        f"mongodb://u:canary@no.such.host.invalid/lab?{QUICK}",
        f"mongodb+srv://u:canary@no.invalid/lab?{QUICK}",
    ):
        error = error_of(url)
        assert isinstance(error, UnavailableError) and error.code == "name_lookup"


def test_a_server_without_tls_is_unavailable_to_one_who_wants_it():
    error = error_of(servers.mongodb.server().url(tls="true", serverSelectionTimeoutMS=300))
    assert isinstance(error, UnavailableError) and error.code in ("tls", "unreachable")


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def with_tls(authority):
    """A server that takes no connection without TLS."""
    members = servers.mongodb.Members(1, authority=authority)
    yield members
    members.stop()


def test_an_array_is_written_and_read_over_tls(with_tls, authority):
    values = np.random.default_rng(3).integers(0, 1 << 60, (300, 500))
    url = with_tls.url(tls="true", tlsCAFile=authority.path)
    for options in ("", f"&tlsCertificateKeyFile={authority.certificate('DNS:client')}"):
        array = zarrcy.create(
            shape=values.shape,
            chunks=(100, 500),
            dtype=values.dtype,
            storage="mongo_gridfs",
            url=url + options,
            array_id="over_tls",
            overwrite=True,
        )
        array[...] = values
        opened = zarrcy.open(storage="mongo_gridfs", url=url + options, array_id="over_tls", mode="r")
        assert (opened[...] == values).all()
        # Another process has the options from the pickle.
        again = pickle.loads(pickle.dumps(opened))
        assert (again[50:150, 7] == values[50:150, 7]).all()
        for each in (array, opened, again):
            each.store.close()


def test_tls_that_fails_is_unavailable_and_says_that_it_was_tls(with_tls, authority):
    stranger = Authority("another")
    trusted = {"tls": "true", "tlsCAFile": authority.path, "serverSelectionTimeoutMS": 2000}
    hosts = f"localhost:{with_tls.ports[0]}"
    for options in (
        {"tlsCAFile": stranger.path},  # the server's certificate is signed by somebody else
        {"hosts": hosts},  # the certificate is for 127.0.0.1
    ):
        error = error_of(with_tls.url(**{**trusted, **options}))
        assert isinstance(error, UnavailableError) and error.code == "tls"
        assert "tlsCAFile" in error.hint
    trusted |= {"tlsAllowInvalidHostnames": "true", "serverSelectionTimeoutMS": 15_000}
    with GridFSStore(with_tls.url(hosts=hosts, **trusted), array_id="a") as store:
        assert store.get("c/0") is None


def test_a_server_that_refuses_what_it_is_offered_is_unavailable(with_tls, authority):
    """It hangs up, and says nothing: a client without TLS, one whose certificate somebody else signed."""
    certificate = Authority("another").certificate("DNS:client")
    trusted = {"tls": "true", "tlsCAFile": authority.path}
    for options in ({}, {**trusted, "tlsCertificateKeyFile": certificate}):
        error = error_of(with_tls.url(serverSelectionTimeoutMS=300, **options))
        assert isinstance(error, UnavailableError) and error.code in ("tls", "unreachable")
        assert "TLS" in error.hint


def test_a_set_without_a_primary_is_unavailable():
    members = servers.mongodb.Members(3)
    try:
        for process in members.processes[1:]:
            process.stop(9)
        with members._direct(members.ports[0], username="root", password="root of the tests") as client:
            members.processes[0].wait_until(lambda: not client.admin.command("hello")["isWritablePrimary"])
        error = error_of(members.url(serverSelectionTimeoutMS=3000), lambda store: store.set("c/0", b"1"))
        assert isinstance(error, UnavailableError) and error.code == "no_primary"
    finally:
        members.stop()


def test_wrong_options_are_errors_without_the_url():
    for url in ("mongodb://u:canary@h/lab?authMechanism=CANARY", "mongodb://u:canary@h:99999999/lab"):
        assert error_of(url).code == "bad_option"
    for url in (
        "http://u:canary@h/lab",
        "mongodb://u:canary/x@h/lab",
        "mongodb://u:can:ary@h/lab",
        "mongodb://h/a@canary",
    ):
        with pytest.raises(StoreError) as caught:
            GridFSStore(url, array_id="a")
        assert caught.value.code == "bad_url" and "canary" not in str(caught.value)
    with pytest.raises(StoreError) as caught:
        GridFSStore("mongodb://u:canary@h", array_id="a")
    assert caught.value.code == "no_database" and "canary" not in str(caught.value)
    with pytest.raises(ValueError, match=r"array_id|key"):
        GridFSStore("mongodb://h/lab", array_id="../a")


# URLs and secrets


def test_every_option_of_the_url_is_passed_on_and_shown_unless_it_is_secret():
    url = (
        "mongodb://ann:canary@h1:1,h2:2/lab?replicaSet=rs0&tlsCertificateKeyFilePassword=canary&bucket=b&array_id=x%2Fy"
    )
    store = zarrcy.stores.open(url)
    assert (store.database, store.bucket, store.array_id) == ("lab", "b", "x/y")
    assert store.url == "mongodb://ann@h1:1,h2:2/lab?replicaSet=rs0&bucket=b&array_id=x/y"
    assert zarrcy.stores.open(store.url) == store
    assert "canary" not in repr(store) + str(store.options()) and b"canary" not in pickle.dumps(store)
    assert pickle.loads(pickle.dumps(store)) == store
    location = MongoURL("mongodb://ann:canary@h/lab?replicaSet=rs0&w=2")
    assert location.full == "mongodb://ann:canary@h/lab?replicaSet=rs0&w=2"


def test_another_database_is_not_where_the_user_is_looked_up():
    store = GridFSStore("mongodb://ann:x@h/users", database="lab", array_id="a")
    assert store.url == "mongodb://ann@h/lab?authSource=users&bucket=fs&array_id=a"
    store = GridFSStore("mongodb://ann:x@h/?w=2", database="lab", array_id="a")
    assert store.url == "mongodb://ann@h/lab?w=2&authSource=admin&bucket=fs&array_id=a"
    assert zarrcy.stores.open(store.url) == store


def test_another_process_takes_the_password_from_the_environment(store, monkeypatch):
    store.set("c/0", b"abc")
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer).get('c/0'))"

    def run():
        return subprocess.run(
            [sys.executable, "-c", script], input=pickle.dumps(store), capture_output=True, timeout=60
        )

    monkeypatch.setenv("ZARRCY_MONGODB_PASSWORD", PASSWORD)
    assert run().stdout == b"b'abc'\n"
    monkeypatch.delenv("ZARRCY_MONGODB_PASSWORD")
    failed = run()
    assert (
        failed.returncode and b"PermissionDeniedError" in failed.stderr and b"ZARRCY_MONGODB_PASSWORD" in failed.stderr
    )
    monkeypatch.setenv("ZARRCY_MONGODB_URL", servers.mongodb.server().url())
    assert run().stdout == b"b'abc'\n"
    assert GridFSStore(array_id="a").database == DATABASE
    monkeypatch.setenv("ZARRCY_MONGODB_URL", "mongodb://other:x@elsewhere/lab")
    assert run().returncode  # whose password that is


def test_without_a_url_the_error_names_the_variable(monkeypatch):
    monkeypatch.delenv("ZARRCY_MONGODB_URL", raising=False)
    with pytest.raises(StoreError) as caught:
        GridFSStore(array_id="a")
    assert "ZARRCY_MONGODB_URL" in caught.value.hint


def test_stores_of_one_server_share_a_client_until_the_last_is_closed():
    url = servers.mongodb.server().url(appname="shared")
    first, second = (GridFSStore(url, array_id=name) for name in "ab")
    first.set("c/0", b"1")
    second.set("c/0", b"2")
    assert first._bucket.shared is second._bucket.shared
    first.close()
    assert second.get("c/0") == b"2"
    client = second._bucket.shared.client
    second.close()
    second.set("c/0", b"3")
    assert second._bucket.shared.client is not client
    second.close()
