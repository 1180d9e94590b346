"""The pages that make claims about commands and tests: every claim names something that is there."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

import zarrcy
from zarrcy.cli import main

ROOT = Path(__file__).resolve().parent.parent
CLI_PAGE = (ROOT / "docs" / "cli.md").read_text()


def section(command: str) -> str:
    return CLI_PAGE.split(f"## zarrcy {command}\n")[1].split("\n## ")[0]


def words(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_]+)`", text))


def fields(value: Any) -> set[str]:
    """The names of the fields of a document, but for those inside attributes, configurations and libraries."""
    if isinstance(value, list):
        return set().union(*map(fields, value))
    if not isinstance(value, dict):
        return set()
    inner = (item for name, item in value.items() if name not in ("attributes", "configuration", "libraries"))
    return set(value).union(*map(fields, inner))


COMMANDS: dict[str, list[str]] = {
    "info": ["h.zarr", "g/x"],
    "tree": ["h.zarr"],
    "ls": ["h.zarr", "-l", "-r"],
    "copy": ["h.zarr", "copy.zarr", "--overwrite"],
    "sync": ["h.zarr", "synced.zarr", "again.zarr"],
    "validate": ["h.zarr", "--deep"],
    "repair": ["h.zarr"],
    "doctor": ["h.zarr", "--write"],
    "cost": ["h.zarr", "--reads", "2"],
    "stores": [],
    "codecs": [],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_of_a_document_is_described(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    zarrcy.create_array("h.zarr", "g/x", shape=(4,), chunks=(2,), dtype="int8")[:] = 1
    for _ in range(2):
        main([command, *COMMANDS[command], "--json"])
        found = fields(json.loads(capsys.readouterr().out))
        described = words(section(command)) | (words(section("tree")) if command == "ls" else set())
        assert sorted(found - described) == []
        (tmp_path / "h.zarr/g/x/c/0").write_bytes(b"")  # the second time, validate has a problem to describe


def test_every_kind_of_problem_is_described() -> None:
    source = (ROOT / "zarrcy" / "cli" / "validation.py").read_text()
    codes = set(re.findall(r'self\.report\([^"()]*"(\w+)"', source)) | set(re.findall(r'code = "(\w+)"', source))
    codes |= set(re.findall(r'else "(\w+)"$', source, re.M))
    assert codes == words(section("validate").split("| problem |")[1].split("\n\n")[0])


def defined_in(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_promise_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "promises.md").read_text()
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", page)
    assert [f"{path}::{test}" for path, test in named if test not in defined_in(ROOT / path)] == []
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) > 10
    assert [row for row in rows if "::test_" not in row] == []


def test_every_link_between_pages_leads_to_a_file() -> None:
    pages = [*ROOT.glob("*.md"), *(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []
