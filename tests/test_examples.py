"""The programs of `docs/examples` run, unchanged, on memory, on directories and on a real S3 server."""

from __future__ import annotations

import importlib.util
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from servers import s3

import zarrcy

ROOT = Path(__file__).resolve().parent.parent
_numbers = itertools.count()


def example(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bucket(monkeypatch):
    """A new bucket; the endpoint and the keys are in the environment, where a user has them."""
    server = s3.server()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    name = f"example-{next(_numbers)}-{os.getpid()}"
    with server.client() as client:
        client.create_bucket(Bucket=name)
    return name


def test_one_program_runs_in_development_staging_and_production(tmp_path, bucket, capsys):
    stages = example("stages")
    places = {"development": (), "staging": (tmp_path / "test_array",), "production": (bucket,)}
    means = set()
    for stage, place in places.items():
        array, mean = stages.run(stages.STAGES[stage](*place))
        means.add(mean)
        if stage != "development":
            # Whoever comes later finds it.
            url = array.store.url
            again = zarrcy.open(url, mode="r")
            assert (again[...] == array[...]).all() and again.attrs == array.attrs
    assert len(means) == 1
    assert means.pop() == pytest.approx(np.sin(np.arange(250, 750)).mean())
    stages.main("development")
    assert "bytes stored" in capsys.readouterr().out


def test_hybrid_storage_reads_from_the_service_once(tmp_path, bucket, capsys):
    url = f"s3://{bucket}/experiments/array1"
    zarrcy.create_array(url, shape=1000, chunks=100, dtype="int32")[...] = np.arange(1000)
    hybrid = example("hybrid")
    hybrid.main(url, tmp_path / "cache")
    first, second = capsys.readouterr().out.splitlines()
    assert first == "first read: 0 from the cache, 10 from the service"
    assert second == "second read: 10 from the cache, 0 from the service"
    # A change in the service is seen by the next read.
    zarrcy.open_array(url, mode="r+")[:100] = -1
    assert (hybrid.open_cached(url, tmp_path / "cache")[:101] == [-1] * 100 + [100]).all()


@pytest.mark.parametrize("kind", ["s3", "directories"])
def test_regions_get_what_changed_and_no_more(tmp_path, bucket, kind, capsys):
    if kind == "s3":
        urls = [f"s3://{bucket}/{region}" for region in ("us-west-2", "us-east-1", "eu-west-1", "ap-southeast-1")]
    else:
        urls = [f"file://{tmp_path}/{region}" for region in ("us-west-2", "us-east-1", "eu-west-1", "ap-southeast-1")]
    regions = example("regions")
    regions.main(*urls)
    assert "15 values copied, 0 were there already" in capsys.readouterr().out  # 4 chunks and zarr.json, three times
    expected = zarrcy.open(urls[0])[...]
    for url in urls[1:]:
        assert (zarrcy.open(url, mode="r")[...] == expected).all()
    zarrcy.open_array(urls[0], mode="r+")[:250] = 7
    done = regions.replicate(urls[0], urls[1:])
    assert (done.copied, done.unchanged) == (3, 12)
    assert (zarrcy.open(urls[3], mode="r")[0] == 7).all()
