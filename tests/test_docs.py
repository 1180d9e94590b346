"""What the documentation says is so: every public name is there, every example runs, every script it names exists.

In README.md and docs/, a ``python`` block is run (where it has prompts, tested as a session), unless
``<!-- not run: why -->`` stands before it; a ``bash`` block is run where ``<!-- run -->`` stands before it. The
blocks of one page share their names and a directory; ``<!-- server: erlang -->`` starts tests/servers/erlang.py first.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import inspect
import io
import os
import pkgutil
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import zarrcy

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)])
FENCE = re.compile(
    r"(?P<before>[^\n]*)\n+```+ ?\{?(?:code-block\} ?)?(?P<language>\w+)\}?[^\n]*\n(?P<code>.*?)```", re.DOTALL
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A fenced block of a page that is to be run."""

    language: str
    code: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = "\n" + page.read_text()
    for match in FENCE.finditer(text):
        language, before = match["language"], match["before"]
        if (language == "python" and "not run:" not in before) or (language == "bash" and before == "<!-- run -->"):
            yield Block(language, match["code"], text.count("\n", 0, match.start("code")))


def run_doctest(test: doctest.DocTest) -> str:
    """The report of the failures; empty when there are none."""
    out = io.StringIO()
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=out.write, clear_globs=False)
    return out.getvalue()


def run_python(block: Block, page: Path, names: dict[str, Any]) -> None:
    if ">>> " in block.code:
        test = doctest.DocTestParser().get_doctest(block.code, names, page.name, str(page), block.line)
        report = run_doctest(test)
        names.update(test.globs)
        assert not report, report
    else:
        code = "\n" * (block.line - 1) + block.code  # a traceback names the line of the page
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(code, str(page), "exec"), names)


def run_shell(block: Block, page: Path, programs: Path) -> None:
    env = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-ec", block.code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{page.name}:{block.line}: exit code {done.returncode}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the program ``zarrcy``: that of the package under test."""
    directory = tmp_path_factory.mktemp("bin")
    start = f"import sys; sys.path.insert(0, {str(Path(zarrcy.__file__).parent.parent)!r}); import zarrcy.cli"
    program = directory / "zarrcy"
    program.write_text(f"#!{sys.executable}\n{start}; sys.exit(zarrcy.cli.main())\n")
    program.chmod(0o755)
    return directory


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_examples_of_a_page_run(
    page: Path, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("page")  # a module that is known, so that the classes of a page can be pickled
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names = vars(module)
    for server in re.findall(r"^<!-- server: (\w+) -->$", page.read_text(), re.MULTILINE):
        importlib.import_module(f"servers.{server}").server()
    for block in blocks(page):
        if block.language == "python":
            run_python(block, page, names)
        else:
            run_shell(block, page, programs)


def test_the_readme_names_scripts_that_exist_and_shows_at_least_ten_lines_of_use() -> None:
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"\bscripts/\w+", text))
    assert named >= {"scripts/demo", "scripts/test"}
    assert [name for name in sorted(named) if not os.access(ROOT / name, os.X_OK)] == []
    lines = [line for block in blocks(ROOT / "README.md") for line in block.code.splitlines() if line.strip()]
    assert len(lines) >= 10


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples register is forgotten after each test."""
    for registry in (zarrcy.codecs.registry, zarrcy.stores.catalogue.registry):
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))


def modules() -> list[str]:
    return sorted(
        info.name for info in pkgutil.walk_packages(zarrcy.__path__, "zarrcy.") if "__main__" not in info.name
    )


@pytest.mark.parametrize("name", ["zarrcy", *modules()])
def test_the_examples_of_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    reports = [run_doctest(test) for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]
    assert not any(reports), "".join(reports)


def public() -> list[tuple[str, Any]]:
    return [(name, getattr(zarrcy, name)) for name in zarrcy.__all__ if not name.startswith("_")]


def test_every_public_name_exists_and_is_sorted() -> None:
    assert list(zarrcy.__all__) == sorted(zarrcy.__all__)
    assert [name for name in zarrcy.__all__ if not hasattr(zarrcy, name)] == []


def test_every_public_name_is_in_the_documentation() -> None:
    text = "\n".join(path.read_text() for path in ROOT.glob("docs/**/*") if path.suffix in (".md", ".rst"))
    assert [name for name, _ in public() if not re.search(rf"\b{name}\b", text)] == []


def test_every_public_function_and_class_has_a_docstring_with_an_example() -> None:
    """Exceptions and the abstract classes, which pages of the documentation show, need no example."""
    wrong = []
    for name, value in public():
        text = inspect.getdoc(value) or ""
        plain = inspect.ismodule(value) or inspect.isabstract(value)
        if plain or (inspect.isclass(value) and issubclass(value, Exception)):
            if not text:
                wrong.append(name)
        elif callable(value) and not re.search(r"^Examples\n--------\n[\s\S]*>>> ", text, re.MULTILINE):
            wrong.append(name)
    assert wrong == []


def parameters(value: Any) -> list[str]:
    with contextlib.suppress(ValueError, TypeError):
        return [name for name in inspect.signature(value).parameters if name not in ("self", "args", "kwargs")]
    return []


SECTION = re.compile(r"^Parameters\n-+\n([\s\S]*?)(?=^\w[\w ]*\n---|\Z)", re.MULTILINE)


def test_every_parameter_of_a_public_function_is_documented() -> None:
    """A function without a list of its own names the function whose parameters it shares."""
    wrong = []
    for name, value in public():
        if not callable(value) or inspect.isclass(value) or not parameters(value):
            continue
        text = inspect.getdoc(value) or ""
        section = SECTION.search(text)
        if section is None:
            if not re.search(r"`zarrcy\.\w+`", text):
                wrong.append(name)
            continue
        heads = " ".join(re.findall(r"^(\S[^:\n]*)", section[1], re.MULTILINE))
        said = set(re.findall(r"\w+", heads))
        wrong += [f"{name}({parameter})" for parameter in parameters(value) if parameter not in said]
    assert wrong == []


@pytest.mark.parametrize("script", ["scripts/demo", "scripts/test", "scripts/lint", "scripts/venv", ".ci/run"])
def test_the_scripts_of_a_newcomer_can_be_run(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert subprocess.run(["bash", "-n", path], timeout=60).returncode == 0
