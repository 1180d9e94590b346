"""`S3Store` on a server that checks signatures: layout, options, URLs, which requests are made, what they cost."""

from __future__ import annotations

import json
import pickle
import re
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import servers.s3
import zarr
from s3_cases import copy_of, new_store, take_credentials_away
from servers.certificates import Authority
from servers.scripted import Answer, Request, Scripted

import zarrcy
from zarrcy.errors import StoreError, UnavailableError
from zarrcy.stores import copy_store
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.retry import Retry
from zarrcy.stores.s3 import S3Store

PAGE = Path(__file__).parent.parent / "docs" / "stores" / "s3.md"


@pytest.fixture
def store():
    with new_store() as store:
        yield store


@pytest.fixture
def surroundings(monkeypatch, tmp_path):
    take_credentials_away(monkeypatch, tmp_path)
    return monkeypatch


def names_in(prefix: str) -> set[str]:
    with servers.s3.server().client() as client:
        found = client.list_objects_v2(Bucket="arrays", Prefix=prefix).get("Contents", [])
    return {each["Key"].removeprefix(prefix) for each in found}


# ---- layout


@pytest.mark.parametrize(
    ("zarr_format", "names"),
    [(2, {".zarray", "0.0", "0.1", "1.0", "1.1"}), (3, {"zarr.json", "c/0/0", "c/0/1", "c/1/0", "c/1/1"})],
)
def test_the_keys_are_those_of_the_guide_and_other_programs_read_them(zarr_format, names, tmp_path):
    place = {"bucket": "arrays", "prefix": f"experiments/array{zarr_format}"}
    array = zarrcy.create(
        shape=(4, 4),
        chunks=(2, 2),
        dtype="float64",
        zarr_format=zarr_format,
        storage="s3",
        endpoint_url=servers.s3.server().endpoint,
        **place,
    )
    array[...] = np.arange(16.0).reshape(4, 4)
    assert names_in(f"experiments/array{zarr_format}/") - {".zattrs"} == names
    copy_store(array.store, FilesystemStore(tmp_path / "copy"))
    there = zarr.open_array(tmp_path / "copy", mode="r+")
    assert (there[...] == np.arange(16.0).reshape(4, 4)).all()
    there[0, 0] = 100
    copy_store(FilesystemStore(tmp_path / "copy"), array.store)
    assert zarrcy.open(array.store.url)[0, 0] == 100


def test_names_with_every_printable_character_come_back(store):
    keys = {f"c/{chr(i)}" for i in range(33, 127) if chr(i) not in "\\/."} | {
        "a b",
        "a+b",
        "a%20b",
        "é",
        "世/界",
        "a=b&c",
    }
    for key in keys:
        store.set(key, key.encode())
    assert set(store.list_prefix()) == keys
    assert dict(store.get_many((key, None) for key in keys)) == {i: key.encode() for i, key in enumerate(keys)}
    assert set(store.list_dir("c/")) == {key[2:] for key in keys if key.startswith("c/")}
    store.delete_prefix("")
    assert list(store.list_prefix()) == []


def test_a_long_listing_and_its_deletion_go_by_pages(store):
    keys = [f"c/{i % 3}/{i}" for i in range(1100)]
    store.set_many((key, b"1") for key in keys)
    assert sorted(store.list_prefix()) == sorted(keys)
    assert sorted(store.list_prefix("c/1/")) == sorted(key for key in keys if key.startswith("c/1/"))
    store.delete_prefix("c/")
    assert list(store.list_prefix()) == []


def test_the_storage_class_is_sent(store):
    with copy_of(store, storage_class="STANDARD_IA") as cold, servers.s3.server().client() as client:
        cold.set("k", b"1")
        assert client.get_object(Bucket="arrays", Key=f"{store.prefix}/k")["StorageClass"] == "STANDARD_IA"


def test_a_plain_client_and_the_store_read_each_other_with_checksums(store):
    with servers.s3.server().client() as client:
        store.set("k", b"ours")
        answer = client.get_object(Bucket="arrays", Key=f"{store.prefix}/k", ChecksumMode="ENABLED")
        assert answer["Body"].read() == b"ours" and answer["ChecksumCRC32C"]
        client.put_object(Bucket="arrays", Key=f"{store.prefix}/k", Body=b"theirs")  # with a CRC-32
    found = store.client.get(f"{store.prefix}/k", None, None)
    assert found.value == b"theirs" and found.checksum.algorithm == "crc32"


def test_a_folder_that_holds_nothing_is_all_that_this_server_lists_beyond_the_keys(store):
    store.set("a/b", b"1")
    store.set("d", b"2")
    assert sorted(store.list_dir()) == ["a/", "d"] and list(store.list_dir("a/")) == ["b"]


# ---- options and URLs


def test_a_url_holds_every_option_that_is_text_and_opens_the_same_storage():
    options = {
        "bucket": "my-zarr-data",
        "prefix": "experiments/array 1/50% é",
        "region": "us-west-2",
        "endpoint_url": "http://localhost:9000",
        "profile": "lab",
        "storage_class": "STANDARD_IA",
        "anonymous": True,
    }
    store = S3Store(**options)
    assert zarrcy.stores.open(store.url) == store == pickle.loads(pickle.dumps(store))
    assert store.options() == options
    assert S3Store("b").url == "s3://b" and S3Store("b", prefix="/x/").url == "s3://b/x"
    assert zarrcy.stores.open("s3://b/x", region="eu-west-1").region == "eu-west-1"
    arn = "arn:aws:s3:us-west-2:123456789012:accesspoint/lab"
    assert S3Store(arn).bucket == arn


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: S3Store(""), "no_bucket"),
        (lambda: S3Store("b/c"), "no_bucket"),
        (lambda: S3Store("b--usw2-az1--x-s3"), "directory_bucket"),
        (lambda: S3Store("b", endpoint_url="localhost:9000"), "bad_endpoint"),
        (lambda: S3Store("b", endpoint_url="http://key:canary@localhost"), "bad_endpoint"),
        (lambda: S3Store.from_url("s3://key:canary@b/x"), "bad_url"),
        (lambda: S3Store.from_url("s3://b/x?secret_key=canary"), "bad_url"),
        (lambda: S3Store("b", profile="nobody").get("k"), "no_profile"),
        (lambda: S3Store("a bucket", anonymous=True).get("k"), "bad_bucket"),
        (lambda: S3Store("b", region="no region", anonymous=True).get("k"), "bad_region"),
    ],
)
def test_wrong_options_are_errors_that_show_no_secret(call, code, surroundings):
    with pytest.raises(StoreError) as caught:
        call()
    assert caught.value.code == code and caught.value.hint
    assert "canary" not in f"{caught.value!r} {caught.value} {caught.value.__notes__}"


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(StoreError) as caught:
        S3Store("b").get("k")
    assert caught.value.code == "missing_package" and 'pip install "zarrcy[s3]"' in caught.value.hint


def test_credentials_are_no_options():
    for given in (("key", "canary"), {"access_key": "canary"}, "canary"):
        with pytest.raises(TypeError, match="callable") as caught:
            S3Store("b", credentials=given)
        assert "canary" not in str(caught.value)
    with pytest.raises(TypeError, match="anonymous"):
        S3Store("b", anonymous=True, credentials=dict)


@pytest.mark.parametrize(
    ("environment", "options", "base", "region"),
    [
        ({}, {}, "https://my-zarr.s3.amazonaws.com/", "us-east-1"),
        ({"AWS_REGION": "us-west-2"}, {}, "https://my-zarr.s3.us-west-2.amazonaws.com/", "us-west-2"),
        ({"AWS_DEFAULT_REGION": "cn-north-1"}, {}, "https://my-zarr.s3.cn-north-1.amazonaws.com.cn/", "cn-north-1"),
        (
            {"AWS_REGION": "us-west-2"},
            {"region": "eu-west-3"},
            "https://my-zarr.s3.eu-west-3.amazonaws.com/",
            "eu-west-3",
        ),
        ({}, {"profile": "lab"}, "https://my-zarr.s3.sa-east-1.amazonaws.com/", "sa-east-1"),
        ({"AWS_ENDPOINT_URL": "http://localhost:4566"}, {}, "http://localhost:4566/my-zarr/", "us-east-1"),
        ({"AWS_ENDPOINT_URL_S3": "http://localhost:4566"}, {}, "http://localhost:4566/my-zarr/", "us-east-1"),
        (
            {"AWS_ENDPOINT_URL": "http://localhost:4566"},
            {"endpoint_url": "https://minio.example:9000/base"},
            "https://minio.example:9000/base/my-zarr/",
            "us-east-1",
        ),
        (
            {"AWS_USE_FIPS_ENDPOINT": "true"},
            {"region": "us-east-2"},
            "https://my-zarr.s3-fips.us-east-2.amazonaws.com/",
            "us-east-2",
        ),
    ],
)
def test_regions_and_endpoints_follow_the_rules_of_the_sdk(environment, options, base, region, surroundings, tmp_path):
    (tmp_path / "config").write_text("[profile lab]\nregion = sa-east-1\n")
    for name, value in environment.items():
        surroundings.setenv(name, value)
    place = S3Store("my-zarr", anonymous=True, **options).client.place
    assert (place.base, place.region, place.service) == (base, region, "s3")


def test_amazons_prices_are_those_of_amazons_endpoints(surroundings):
    assert S3Store("b").priced_as == "s3"
    assert S3Store("b", endpoint_url="http://localhost:9000").priced_as == ""
    surroundings.setenv("AWS_ENDPOINT_URL", "http://localhost:9000")
    assert S3Store("b").priced_as == ""


def test_tls_is_spoken_with_whom_the_authorities_trust(surroundings):
    authority = Authority()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority.certificate("IP:127.0.0.1"))
    surroundings.setenv("AWS_ACCESS_KEY_ID", "key")
    surroundings.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with Scripted(Answer(200, {"ETag": '"1"'}, b"value")) as server:
        server._server.socket = tls.wrap_socket(server._server.socket, server_side=True)
        options = {"endpoint_url": f"https://127.0.0.1:{server.port}", "retry": Retry(deadline=0)}
        with S3Store("b", **options) as stranger, pytest.raises(UnavailableError, match="not trusted") as caught:
            stranger.set("k", b"1")
        assert caught.value.code == "certificate" and server.requests == []
        surroundings.setenv("AWS_CA_BUNDLE", str(authority.path))
        with S3Store("b", **options) as store:
            store.set("k", b"123456789")
            assert store.get("k") == b"value"
        # TLS guards the body; its checksum is signed.
        sent = server.requests[0].headers
        assert sent["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD" and "x-amz-checksum-crc32c;" in sent["Authorization"]


# ---- requests


@pytest.fixture
def counted(store):
    """The store through a server that keeps account of the requests."""
    with Scripted(servers.s3.server().answer) as server, copy_of(store, endpoint_url=server.url) as own:
        own.requests = server.requests
        yield own


def action(request: Request) -> str:
    """The action of a policy that allows a request."""
    path, _, query = request.path.partition("?")
    is_bucket = path.rstrip("/") == "/arrays"
    actions = {
        ("GET", False): "s3:GetObject",
        ("PUT", False): "s3:PutObject",
        ("DELETE", False): "s3:DeleteObject",
        ("POST", True): "s3:DeleteObject" if query == "delete" else query,
        ("GET", True): "s3:ListBucket" if "list-type=2" in query else query,
    }
    return actions.get((request.method, is_bucket), f"{request.method} {request.path}")


def test_the_calls_are_those_of_the_policy_in_the_documentation(counted):
    policy = json.loads(re.search(r"```json\n(\{.*?\})\n```", PAGE.read_text(), re.DOTALL)[1])
    allowed = {each for statement in policy["Statement"] for each in statement["Action"]}
    group = zarrcy.create_group(counted)
    array = group.create_array("a", shape=(8,), chunks=(2,), dtype="i4")
    array[...] = np.arange(8)
    array[1:4] = 0
    array.append(np.arange(3))
    array.attrs["x"] = 1
    assert list(zarrcy.open(counted)["a"][...]) == [0, 0, 0, 0, 4, 5, 6, 7, 0, 1, 2]
    zarrcy.consolidate_metadata(counted)
    counted.update("k", lambda old: b"1")
    counted.delete("k")
    assert counted.exists("zarr.json") and counted.size("zarr.json") and list(counted.list_dir())
    del group["a"]
    counted.delete_prefix("")
    assert {action(request) for request in counted.requests} == allowed


def test_no_request_is_made_twice(counted):
    array = zarrcy.create_array(counted, "a", shape=(8,), chunks=(2,), dtype="i4", zarr_format=3)
    array[...] = np.arange(8)
    requests = counted.requests

    def counts(call):
        requests.clear()
        call()
        return [request.method for request in requests]

    assert counts(lambda: zarrcy.open_array(counted, "a", zarr_format=3)) == ["GET"]
    assert len(counts(lambda: zarrcy.open_array(counted, "a"))) <= 2
    assert len(counts(lambda: zarrcy.open(counted, "a"))) <= 3
    assert counts(lambda: array[...]) == ["GET"] * 4
    assert counts(lambda: array[3]) == ["GET"]
    assert counts(lambda: array.__setitem__(slice(0, 4), 1)) == ["PUT"] * 2
    assert counts(lambda: counted.delete_prefix("a/")) == ["GET", "POST"]


def test_ten_chunks_are_read_side_by_side(store, monkeypatch):
    """Each answer comes only when ten requests are there: one by one, none would."""
    array = zarrcy.create_array(store, "a", shape=(10,), chunks=(1,), dtype="i4")
    array[...] = np.arange(10)
    all_there = threading.Barrier(10)

    def answers(request):
        if "/c/" in request.path:
            all_there.wait(20)
        return servers.s3.server().answer(request)

    with Scripted(answers) as server, copy_of(store, endpoint_url=server.url) as own:
        assert zarrcy.open_array(own, "a")[...].tolist() == list(range(10))


@pytest.mark.bounds
def test_a_listing_of_1000_keys_takes_a_tenth_of_the_sdks_time_and_a_read_less_than_half(store):
    store.set_many((f"c/{i}/0", b"x" * 100) for i in range(1000))
    store.set("value", b"x" * 100_000)

    def cost(call, n):
        call()
        begin = time.process_time()
        for _ in range(n):
            call()
        return (time.process_time() - begin) / n

    name = {"Bucket": "arrays", "Key": f"{store.prefix}/value"}
    with servers.s3.server().client() as client:
        listing = cost(lambda: client.list_objects_v2(Bucket="arrays", Prefix=f"{store.prefix}/c/"), 3)
        read = cost(lambda: client.get_object(**name)["Body"].read(), 50)
    own_listing = cost(lambda: list(store.list_prefix("c/")), 10)
    own_read = cost(lambda: store.get("value"), 50)
    print(f"list {own_listing * 1e3:.2f} of {listing * 1e3:.1f} ms, read {own_read * 1e3:.2f} of {read * 1e3:.2f} ms")
    assert own_listing < 0.1 * listing and own_listing < 0.02
    assert own_read < 0.6 * read


@pytest.mark.bounds
@pytest.mark.parametrize("engine", ["", "&engine=obstore"])
@pytest.mark.parametrize("n_chunks", [32, pytest.param(256, marks=pytest.mark.long)])
def test_reading_256_mib_or_2_gib_takes_300_mib_beside_the_items(store, n_chunks, engine):
    """Chunks of 8 MiB that do not become smaller by their codec: 32 at once would be 512 MiB, encoded and decoded."""
    nbytes = 8 << 20
    noise = np.random.default_rng(7).integers(0, 256, nbytes, "u1")
    array = zarrcy.create_array(store, shape=n_chunks * nbytes, chunks=nbytes, dtype="u1", compressor="zstd")
    for i in range(n_chunks):
        array[i * nbytes : (i + 1) * nbytes] = noise
    script = Path(__file__).parent / "array_memory.py"
    url = f"s3://{store.bucket}/{store.prefix}?region={servers.s3.REGION}{engine}"
    done = subprocess.run(
        [sys.executable, str(script), "remote", url, store.endpoint_url], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["total"] == n_chunks * int(noise.sum(dtype="u8"))
    print(f"{found['growth'] / 2**20:.0f} MiB")
    assert found["growth"] < 300 << 20
