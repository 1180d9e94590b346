"""``zarrcy doctor``: what it says of stores that are well, and of those that are not."""

from __future__ import annotations

import json
import os

import pytest

import zarrcy
from zarrcy.cli import main
from zarrcy.stores import catalogue
from zarrcy.stores.memory import MemoryStore


def examined(capsys, *arguments):
    code = main(["doctor", *arguments, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == (0 if found["healthy"] else 1)
    return found, {step["step"]: step for step in found["steps"]}


def test_a_store_that_is_well_passes_every_step_and_keeps_nothing(tmp_path, capsys):
    zarrcy.create_array(tmp_path / "a.zarr", shape=4)
    before = sorted(os.listdir(tmp_path / "a.zarr"))
    found, steps = examined(capsys, str(tmp_path / "a.zarr"), "--write")
    assert found["healthy"] and all(step["ok"] for step in steps.values())
    assert list(steps) == ["open", "reach", "list", "latency", "write", "read back", "conditions", "delete"]
    assert "zarr.json" in steps["list"]["says"] and "obeyed" in steps["conditions"]["says"]
    assert sorted(os.listdir(tmp_path / "a.zarr")) == before


def test_without_write_nothing_is_written(tmp_path, capsys, monkeypatch):
    zarrcy.create_array(tmp_path / "a.zarr", shape=4)
    _, steps = examined(capsys, str(tmp_path / "a.zarr"))
    assert list(steps) == ["open", "reach", "list", "latency"]


def test_what_fails_says_why_and_what_to_do_and_what_needs_it_is_not_tried(tmp_path, capsys):
    found, steps = examined(capsys, str(tmp_path / "missing"), "--write")
    assert not found["healthy"]
    assert steps["reach"]["ok"] is False and steps["reach"]["hints"]
    assert steps["list"]["ok"] is None and "not tried" in steps["list"]["says"]
    assert list(steps)[-1] == "delete"


def test_a_url_that_no_store_has_is_one_failed_step(capsys):
    found, steps = examined(capsys, "ftp://somewhere")
    assert list(steps) == ["open"] and "ftp" in steps["open"]["says"] and found["store"] == "ftp://somewhere"


class Broken(MemoryStore):
    schemes = ("broken",)

    def set(self, key, value):
        super().set(key, bytes(value)[:-1] + b"!")

    @classmethod
    def from_url(cls, url, *, mode=None, **options):
        return cls()


def test_bytes_that_change_are_noticed(capsys, monkeypatch):
    monkeypatch.setitem(catalogue.registry._classes, "broken", Broken)
    found, steps = examined(capsys, "broken://x", "--write")
    assert not found["healthy"] and "expected the bytes that were written" in steps["read back"]["says"]


@pytest.mark.parametrize("arguments", [[], ["--write"]])
def test_people_see_a_line_for_each_step(tmp_path, capsys, arguments):
    assert main(["doctor", str(tmp_path), *arguments]) == 0
    out = capsys.readouterr().out
    assert out.count(" ok ") == (8 if arguments else 4)
