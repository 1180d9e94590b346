"""`GCSStore`: its options and names, what lies in the bucket, and which requests it makes."""

from __future__ import annotations

import collections
import os
import pickle
import random
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import servers.gcs
from google.auth.credentials import AnonymousCredentials
from google.oauth2.credentials import Credentials
from servers.gcs import as_json, path_of
from servers.scripted import RESET

import zarrcy
from zarrcy.errors import StoreError
from zarrcy.stores import GCSStore, gcs_client
from zarrcy.stores.retry import Retry

PAGE = Path(__file__).resolve().parent.parent / "docs" / "stores" / "gcs.md"


@pytest.fixture
def bucket():
    return servers.gcs.server().bucket()


@pytest.fixture
def store(bucket):
    with GCSStore(bucket, prefix="lab/a", endpoint=servers.gcs.server().endpoint) as store:
        yield store


@pytest.fixture
def front():
    with servers.gcs.Front(servers.gcs.server(), "good") as front:
        yield front


def through(front, bucket, **options):
    return GCSStore(bucket, endpoint=front.url, credentials=Credentials("good"), **options)


def names_in(bucket):
    with GCSStore(bucket, endpoint=servers.gcs.server().endpoint) as store:
        return set(store.list_prefix())


# Options and URLs


def test_the_bucket_and_the_prefix_are_in_the_url():
    store = zarrcy.stores.open("gs://my-zarr-bucket/experiments/array1")
    assert store == GCSStore("my-zarr-bucket", prefix="experiments/array1") == GCSStore.from_url(store.url)
    assert GCSStore.from_url("gs://my-zarr-bucket") == GCSStore.from_url("gs://my-zarr-bucket/")
    assert GCSStore.from_url("gs://my-zarr-bucket/a b?c#d%20").prefix == "a b?c#d%20"
    assert GCSStore.from_url("gs://my-zarr-bucket/a", prefix="b", max_concurrency=3).url == "gs://my-zarr-bucket/b"


def test_every_option_opens_the_same_storage_again():
    options = {
        "prefix": "lab",
        "project": "payer",
        "credentials": "/keys/a.json",
        "storage_class": "COLDLINE",
        "endpoint": "https://storage.example:8443",
        "retry": Retry(deadline=5),
        "max_concurrency": 7,
    }
    store = zarrcy.stores.by_name("gcs", bucket="my-bucket", **options)
    assert store.options() == {"bucket": "my-bucket", **options}
    again = pickle.loads(pickle.dumps(store))
    assert again == store and again.options() == store.options() and again.concurrency == 7
    assert GCSStore("my-bucket").options() == {"bucket": "my-bucket"}
    assert GCSStore("my-bucket").priced_as in zarrcy.cost.PRICES
    assert zarrcy.stores.info("gcs") == ("gcs", "Cloud", "Yes", "Unlimited", "Medium", "Google Cloud Platform")


def test_a_relative_path_of_credentials_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert GCSStore("my-bucket", credentials="key.json").options()["credentials"] == str(tmp_path / "key.json")
    assert GCSStore("my-bucket", credentials=Path("key.json")).options()["credentials"] == str(tmp_path / "key.json")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"bucket": "gs://my-bucket"}, "bad_bucket"),
        ({"bucket": "My-Bucket"}, "bad_bucket"),
        ({"bucket": "a"}, "bad_bucket"),
        ({"bucket": ""}, "bad_bucket"),
        ({"endpoint": "ftp://host"}, "bad_endpoint"),
        ({"endpoint": "http://"}, "bad_endpoint"),
        ({"endpoint": "http://host:port"}, "bad_endpoint"),
        ({"endpoint": "http://ann:canary@host"}, "bad_endpoint"),
        ({"endpoint": "http://host?token=canary"}, "bad_endpoint"),
    ],
)
def test_a_wrong_option_is_an_error_that_says_which(options, code):
    with pytest.raises(StoreError, match=code[4:]) as caught:
        GCSStore(**{"bucket": "my-bucket", **options})
    assert caught.value.code == code and caught.value.hint and "canary" not in str(caught.value)


@pytest.mark.parametrize("credentials", [5, '{"type": "service_account", "private_key": "canary"}', ["a"]])
def test_credentials_that_are_none_are_a_type_error(credentials):
    with pytest.raises(TypeError, match="credentials: expected") as caught:
        GCSStore("my-bucket", credentials=credentials)
    assert "canary" not in str(caught.value)


def test_the_variable_of_the_emulator_is_the_endpoint(bucket, monkeypatch):
    endpoint = servers.gcs.server().endpoint
    for value in (endpoint, f"{endpoint}/", endpoint.removeprefix("http://")):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", value)
        with zarrcy.stores.open(f"gs://{bucket}/a") as store:
            store.set("k", b"1")
            assert store.endpoint == endpoint
    # Another process, without the variable, opens the same storage.
    code = f"import pickle; print(bytes(pickle.loads({pickle.dumps(store)!r}).get('k')))"
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "b'1'\n", done.stderr


def test_the_package_is_loaded_at_the_first_use_and_is_named_when_it_is_missing():
    code = """
import sys
import zarrcy.stores
store = zarrcy.stores.open("gs://my-bucket/a")
assert not [name for name in sys.modules if name.split(".")[0] in ("google", "requests", "urllib3")]
sys.modules["google.cloud.storage"] = None
try:
    store.get("k")
except zarrcy.StoreError as error:
    print(error.code, error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == 'missing_package pip install "zarrcy[gcs]"\n', done.stderr


# What lies in the bucket


def test_the_objects_of_an_array_are_called_as_in_the_guide(bucket):
    places = {"endpoint": servers.gcs.server().endpoint, "bucket": bucket}
    names = {2: {".zarray", "0.0", "0.1"}, 3: {"zarr.json", "c/0/0", "c/0/1"}}
    for zarr_format, expected in names.items():
        prefix = f"experiments/array{zarr_format}"
        array = zarrcy.create(
            shape=(2, 4), chunks=(2, 2), dtype="f8", zarr_format=zarr_format, storage="gcs", prefix=prefix, **places
        )
        array[:] = 1.5
        found = {name.removeprefix(f"{prefix}/") for name in names_in(bucket) if name.startswith(prefix)}
        assert expected <= found <= expected | {".zattrs"}
        again = zarrcy.open(f"gs://{bucket}/{prefix}", endpoint=places["endpoint"])
        assert again[:].tolist() == array[:].tolist() and again.metadata.zarr_format == zarr_format


def test_tensorstore_reads_and_writes_the_same_arrays(bucket):
    endpoint = servers.gcs.server().endpoint
    done = subprocess.run(
        [sys.executable, "-c", PEER, bucket, endpoint],
        env={**os.environ, "TENSORSTORE_GCS_HTTP_URL": endpoint, "NO_GCE_CHECK": "true"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout == "read\nwritten\n" * 2, done.stderr


# tensorstore reads its variable once in a process.
PEER = """
import sys
import numpy as np
import tensorstore
import zarrcy

bucket, endpoint = sys.argv[1:]
data = np.arange(35, dtype="i4").reshape(5, 7)
for driver, zarr_format in (("zarr", 2), ("zarr3", 3)):
    def place(name):
        return {"driver": driver, "kvstore": {"driver": "gcs", "bucket": bucket, "path": f"{driver}/{name}/"}}
    url = f"gs://{bucket}/{driver}"
    ours = zarrcy.create_array(
        zarrcy.stores.open(f"{url}/ours", endpoint=endpoint), shape=(5, 7), chunks=(2, 3), dtype="i4",
        zarr_format=zarr_format)
    ours[:] = data
    theirs = tensorstore.open(place("ours")).result(timeout=30)
    assert (theirs.read().result(timeout=30) == data).all()
    print("read")
    theirs = tensorstore.open(place("theirs"), create=True, dtype="int32", shape=(5, 7)).result(timeout=30)
    theirs.write(data).result(timeout=30)
    assert (zarrcy.open(f"{url}/theirs", endpoint=endpoint)[:] == data).all()
    print("written")
"""


def test_groups_and_consolidated_metadata_are_found_again(bucket):
    endpoint = servers.gcs.server().endpoint
    for zarr_format in (2, 3):
        store = GCSStore(bucket, prefix=f"g{zarr_format}", endpoint=endpoint)
        group = zarrcy.create_group(store, zarr_format=zarr_format, attributes={"a": 1})
        group.create_array("sub/x", shape=4, dtype="i4")[:] = [1, 2, 3, 4]
        zarrcy.consolidate_metadata(store)
        again = zarrcy.open_group(store)
        assert again.attrs["a"] == 1 and again["sub/x"][:].tolist() == [1, 2, 3, 4]


def test_the_storage_class_and_a_checksum_are_sent(bucket):
    server = servers.gcs.server()
    with GCSStore(bucket, storage_class="NEARLINE", endpoint=server.endpoint) as store:
        store.set("c/0", b"123456789")
        found = server.object(bucket, "c/0")
        assert found["storageClass"] == "NEARLINE" and found["contentType"] == "application/octet-stream"
        assert found["crc32c"] == "4waSgw=="


def test_every_name_that_a_key_can_have_is_one_object(store, bucket):
    keys = ["a b", "c+%20?#&=", "größe/日本", "x" * 200, "%2F", "a/b/c", "~", "'\"<>"]
    for key in keys:
        store.set(key, key.encode())
    assert sorted(store.list_prefix()) == sorted(keys)
    assert names_in(bucket) == {f"lab/a/{key}" for key in keys}
    for key in keys:
        assert store.get(key) == key.encode() and store.get(key, slice(-3, None)) == key.encode()[-3:]
        assert store.size(key) == len(key.encode())
        store.delete(key)
    assert not names_in(bucket)


def test_a_long_listing_comes_in_pages(store, monkeypatch):
    monkeypatch.setattr(gcs_client, "PAGE", 7)
    keys = {f"c/{i}/{j}" for i in range(5) for j in range(9)} | {f"k{i}" for i in range(20)}
    store.set_many((key, b"1") for key in keys)
    assert sorted(store.list_prefix()) == sorted(keys)
    assert sorted(store.list_dir()) == sorted(["c/", *(f"k{i}" for i in range(20))])
    store.delete_prefix("c/")
    assert sorted(store.list_prefix()) == sorted(f"k{i}" for i in range(20))


def test_racing_creators_have_one_winner(store):
    won = []

    def create(i):
        try:
            store.set_if("k", b"%d" % i, None)
            won.append(i)
        except zarrcy.ConflictError:
            pass

    for _ in range(5):
        threads = [threading.Thread(target=create, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1 and store.get("k") == b"%d" % won.pop()
        store.delete("k")


def test_a_version_that_is_none_of_the_service_is_a_conflict_and_writes_nothing(store):
    for version in ("0", "00", "etag", ""):  # 0 is what the service calls the version of an absent object
        with pytest.raises(zarrcy.ConflictError):
            store.set_if("k", b"1", version)
    assert store.get("k") is None


# Requests


def kinds(front):
    """The method of the API that each request calls, as its documentation names them."""
    found = collections.Counter()
    for request in front.requests:
        what = {"POST": "insert", "DELETE": "delete", "GET": "list" if path_of(request).endswith("/o") else "get"}
        found[f"objects.{what[request.method]}"] += 1
    front.requests.clear()
    return found


def test_no_request_is_made_twice(front, bucket):
    for zarr_format in (2, 3):
        # The attributes of v2 are a document of their own.
        n_more = 1 if zarr_format == 2 else 0
        place = through(front, bucket, prefix=f"a{zarr_format}")
        array = zarrcy.create_array(place, shape=(8, 8), chunks=(2, 2), dtype="i4", zarr_format=zarr_format)
        array[:] = np.arange(64).reshape(8, 8)
        kinds(front)
        zarrcy.open_array(place, zarr_format=zarr_format)
        found = kinds(front)
        assert set(found) == {"objects.get"} and found["objects.get"] <= 1 + n_more
        array = zarrcy.open_array(place)
        assert kinds(front)["objects.get"] <= 2 + n_more
        zarrcy.open(place)
        assert kinds(front)["objects.get"] <= 3
        assert array[:].sum() == 63 * 32
        assert kinds(front) == {"objects.get": 16}
        assert array[1:5, 3].tolist() == [11, 19, 27, 35]
        assert kinds(front) == {"objects.get": 3}
        array[:4, :4] = 1
        assert kinds(front) == {"objects.insert": 4}
        place.close()


def test_an_absent_chunk_costs_one_request(front, bucket):
    with through(front, bucket) as store:
        array = zarrcy.create_array(store, shape=40, chunks=4, dtype="i4", fill_value=3)
        kinds(front)
        assert array[:].tolist() == [3] * 40
        assert kinds(front) == {"objects.get": 10}


def test_only_the_documented_calls_are_made(front, bucket):
    with through(front, bucket) as store:
        group = zarrcy.create_group(store)
        array = group.create_array("x", shape=(8, 8), chunks=(2, 2), shards=(4, 4), dtype="i4")
        array[:] = 1
        array[1:3, 1:7] += 1
        assert array[0:3].sum() > 0
        group.create_array("x", shape=4, dtype="i4", overwrite=True)
        zarrcy.consolidate_metadata(store)
        assert list(zarrcy.open_group(store)) == ["x"]
        store.update("k", lambda old: b"1")
        assert store.exists("k") and list(store.list_dir())
        zarrcy.stores.copy_store(store, through(front, servers.gcs.server().bucket()))
        store.delete("k")
        store.delete_prefix("x/")
        made = set(kinds(front))
    documented = set(re.findall(r"^\| `(objects\.\w+)` \|", PAGE.read_text(), re.MULTILINE))
    assert made == documented and len(made) == 4


def n_connections(store):
    pools = store.client._session.get_adapter(store.endpoint).poolmanager.pools
    return sum(pool.num_connections for pool in pools._container.values())


def test_connections_are_kept(front, bucket):
    with through(front, bucket) as store:
        store.set("k", b"1")
        for _ in range(10):
            store.get("k")
            store.get("absent")
            store.get("k", slice(5, 9))
            store.set("k", b"1")
            list(store.list_prefix())
            store.delete("absent")
        assert n_connections(store) == 1
        list(store.get_many([("k", None)] * 200))
        list(store.get_many([("k", None)] * 200))
        assert n_connections(store) <= store.max_concurrency + 1


def check_through_trouble(front, bucket, n):
    """20 % 503, 5 % resets, 5 % cut bodies: every value is right, and no error is seen."""
    draw = random.Random(7)
    lock = threading.Lock()

    def trouble(request):
        with lock:
            share = draw.random()
            if share < 0.2:
                return as_json({"error": {"message": "busy"}}, 503)
            if share < 0.25:
                return RESET
            if share < 0.3:
                answer = front.forward(request)
                return answer._replace(cut=len(answer.body) // 2)
        return None

    with through(front, bucket, retry=Retry(initial=0.001, longest=0.05, deadline=60)) as store:
        values = {f"c/{i}": draw.randbytes(draw.choice([10, 1000, 20_000])) for i in range(n // 4)}
        front.trouble = trouble
        # What is measured here is that it goes on; how fast it goes then is in test_retrying.py.
        store.retrier.pace.failed = lambda error: None
        store.set_many(values.items())
        for part in (None, slice(3, 40)):
            requests = [(key, part) for key in values]
            found = {requests[i][0]: bytes(value) for i, value in store.get_many(requests)}
            assert found == {key: value[slice(None) if part is None else part] for key, value in values.items()}
        assert sorted(store.list_prefix()) == sorted(values)
        store.delete_prefix("")
        assert list(store.list_prefix()) == []
    assert len(front.requests) > n


def test_400_operations_through_faults_have_no_wrong_byte_and_no_error(front, bucket):
    check_through_trouble(front, bucket, 400)


@pytest.mark.long
def test_10000_operations_through_faults_have_no_wrong_byte_and_no_error(front, bucket):
    check_through_trouble(front, bucket, 10_000)


def test_credentials_that_are_anonymous_are_so_in_another_process():
    store = GCSStore("my-bucket", credentials=AnonymousCredentials())
    assert pickle.loads(pickle.dumps(store)).options() == {"bucket": "my-bucket", "credentials": "anonymous"}
