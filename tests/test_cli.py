"""The command line as a user meets it: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrcy
from zarrcy.cli import main

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("info", "tree", "ls", "copy", "validate", "repair", "doctor", "cost", "stores", "codecs", "config")


@pytest.fixture
def ocean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hierarchy of two arrays and two groups, in the working directory."""
    monkeypatch.chdir(tmp_path)
    root = zarrcy.create_group("ocean.zarr", attributes={"title": "An example"})
    array = root.create_array(
        "surface/temperature",
        shape=(12, 90, 180),
        chunks=(1, 90, 180),
        dtype="float32",
        fill_value=np.nan,
        dimension_names=["time", "lat", None],
        attributes={"units": "degree_Celsius"},
    )
    array[:10] = np.linspace(0, 30, 180, dtype="float32")
    root.create_array("time", shape=(12,), dtype="datetime64[s]", chunks=(12,))[:] = np.arange(12).astype("M8[s]")
    return tmp_path / "ocean.zarr"


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zarrcy.cli", *arguments], capture_output=True, text=True, timeout=60, **options
    )


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Standard output of a command that succeeds and says nothing on standard error."""
    code = main(arguments)
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed(capsys, *arguments, "--json"))
    return found


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code and standard error of a command that fails and prints nothing else."""
    code = main(arguments)
    out, err = capsys.readouterr()
    assert out == ""
    return code, err


def test_help_names_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert [name for name in COMMANDS if not re.search(rf"\b{name}\b", done.stdout)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json_and_a_section_in_the_documentation(command: str, capsys: Any) -> None:
    out = printed(capsys, command, "--help")
    page = (ROOT / "docs" / "cli.md").read_text()
    assert "--json" in out
    assert f"## zarrcy {command}\n" in page
    section = page.split(f"## zarrcy {command}\n")[1].split("\n## ")[0] + page.split("## zarrcy info")[0]
    for option in set(re.findall(r"--[a-z-]+", out)) - {"--help"}:
        assert option in section


def test_no_command_is_wrong_usage_and_shows_the_help() -> None:
    done = run()
    assert done.returncode == 2
    assert "validate" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["info"], ["info", "--no-such"], ["no-such"], ["copy", "a"], ["copy", "a", "b", "--zarr-format", "4"]]
)
def test_wrong_usage_is_one_line_with_a_hint(arguments: list[str], capsys: Any) -> None:
    code, err = failure(capsys, *arguments)
    assert code == 2
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("zarrcy: ") and re.fullmatch(r"hint: zarrcy( \w+)? --help", lines[1])


def test_without_its_extra_the_command_line_says_what_to_install() -> None:
    for package in ("typer", "rich"):
        code = f"import sys; sys.modules[{package!r}] = None; from zarrcy.cli import main; sys.exit(main(['stores']))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert package in done.stderr and 'pip install "zarrcy[cli]"' in done.stderr
        assert "Traceback" not in done.stderr


def test_the_version_is_printed(capsys: Any) -> None:
    assert printed(capsys, "--version") == f"zarrcy {zarrcy.__version__}\n"


def test_a_failure_is_one_line_without_a_traceback(tmp_path: Path, capsys: Any) -> None:
    for command in ("info", "tree", "ls", "validate"):
        code, err = failure(capsys, command, str(tmp_path / "nowhere.zarr"))
        assert code == 1
        assert err.startswith("zarrcy: ") and "nowhere.zarr" in err
        assert "Traceback" not in err and len([line for line in err.splitlines() if not line.startswith("hint: ")]) == 1


def test_debug_adds_the_traceback_wherever_it_stands(tmp_path: Path, capsys: Any) -> None:
    target = str(tmp_path / "nowhere.zarr")
    for arguments in (["--debug", "info", target], ["info", target, "--debug"]):
        code, err = failure(capsys, *arguments)
        assert code == 1
        assert "Traceback" in err and err.splitlines()[-2].startswith("zarrcy: ") | err.splitlines()[-1].startswith(
            "zarrcy: "
        )


def test_a_warning_is_one_line(ocean: Path) -> None:
    code = (
        "import sys, warnings, zarrcy; from zarrcy.cli import app\n"
        "def warn(): warnings.warn(zarrcy.ChunkCountWarning('many files'))\n"
        "app.app.command('warn')(warn)\n"
        "sys.exit(app.run(['warn']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "zarrcy: warning: many files\n")


def test_into_a_pipe_there_is_no_colour_no_progress_and_no_wrapping(ocean: Path) -> None:
    for arguments in (["info"], ["tree"], ["ls", "-l", "-r"], ["validate", "--deep"], ["copy", "copy.zip"]):
        command, *rest = arguments
        done = run(command, str(ocean), *rest, env={**os.environ, "COLUMNS": "20"})
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
        assert done.stderr == ""
    assert "surface/temperature" in run("ls", "-l", "-r", str(ocean), env={**os.environ, "COLUMNS": "20"}).stdout


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What a command shows on a terminal of its own."""
    outside, inside = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "zarrcy.cli", *arguments], stdin=inside, stdout=inside, stderr=inside, env=env
    )
    os.close(inside)
    shown = b""
    while True:
        try:
            piece = os.read(outside, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(outside)
    assert process.wait(60) == 0
    return shown.decode()


def test_on_a_terminal_there_are_colours_unless_no_color_is_set(ocean: Path) -> None:
    assert "\x1b[1;34m" in on_a_terminal("tree", str(ocean))
    assert "\x1b[1;34m" not in on_a_terminal("tree", str(ocean), NO_COLOR="1")


def test_on_a_terminal_copy_shows_a_bar_that_goes_away(ocean: Path) -> None:
    shown = on_a_terminal("copy", str(ocean), "terminal.zarr")
    assert "\x1b[2K" in shown  # the bar's line is cleared
    assert "copied 2 arrays and 2 groups" in shown
    assert "\x1b[2K" not in on_a_terminal("copy", str(ocean), "again.zarr", "--json")


def test_a_reader_that_closes_the_pipe_is_no_error(ocean: Path) -> None:
    command = f"{sys.executable} -m zarrcy.cli ls -r {ocean} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_names_with_control_characters_are_shown_escaped(tmp_path: Path, capsys: Any) -> None:
    evil = "\x1b]0;owned\x07[red]\u202e\n"
    array = zarrcy.create(
        shape=(2,),
        dtype="int8",
        dimension_names=[evil],
        attributes={evil: evil},
        storage="filesystem",
        path=tmp_path / "evil.zarr",
    )
    array[:] = 1
    for arguments in (["info", str(tmp_path / "evil.zarr")], ["info", str(tmp_path / "evil.zarr"), "--json"]):
        out = printed(capsys, *arguments)
        assert not any(c in out for c in "\x1b\x07\u202e")
        assert "owned" in out and "[red]" in out
    code, err = failure(capsys, "info", str(tmp_path / "evil.zarr"), evil)
    assert code != 0
    assert not any(c in err for c in "\x1b\x07\u202e")


def test_info_tells_what_an_array_is(ocean: Path, capsys: Any) -> None:
    found = document(capsys, "info", str(ocean), "surface/temperature")
    array = zarrcy.open(ocean)["surface/temperature"]
    stored = sum(file.stat().st_size for file in (ocean / "surface/temperature").rglob("*") if file.is_file())
    assert found.pop("codecs")[0] == {"name": "bytes", "configuration": {"endian": "little"}}
    assert found.pop("store") == array.store.url
    assert found == {
        "path": "surface/temperature",
        "node_type": "array",
        "zarr_format": 3,
        "attributes": {"units": "degree_Celsius"},
        "shape": [12, 90, 180],
        "chunks": [1, 90, 180],
        "shards": None,
        "dimension_names": ["time", "lat", None],
        "data_type": "float32",
        "dtype": "float32",
        "fill_value": "NaN",
        "nbytes": 12 * 90 * 180 * 4,
        "nbytes_stored": stored,
        "nchunks": 12,
        "nchunks_initialized": 10,
    }
    out = printed(capsys, "info", str(ocean), "surface/temperature")
    for words in ("12 × 90 × 180", "float32", "10 of 12", "759.4 KiB", "bytes", "zarr v3", "degree_celsius", '"nan"'):
        assert words in out.lower() or words in out


def test_info_tells_what_a_group_is(ocean: Path, capsys: Any) -> None:
    found = document(capsys, "info", str(ocean))
    assert found == {
        "store": ocean.as_uri(),
        "path": "",
        "node_type": "group",
        "zarr_format": 3,
        "attributes": {"title": "An example"},
        "groups": ["surface"],
        "arrays": ["time"],
    }
    assert "An example" in printed(capsys, "info", str(ocean))


def test_info_of_a_data_type_with_a_configuration(ocean: Path, capsys: Any) -> None:
    found = document(capsys, "info", str(ocean), "time")
    assert found["data_type"] == {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}}
    assert found["dtype"] == "datetime64[s]"
    assert "datetime64[s]" in printed(capsys, "info", str(ocean), "time")


def test_numbers_that_json_cannot_hold_are_spelled_out(tmp_path: Path, capsys: Any) -> None:
    zarrcy.create_group(tmp_path / "a.zarr", attributes={"range": [float("-inf"), {"top": float("nan")}]})
    assert document(capsys, "info", str(tmp_path / "a.zarr"))["attributes"] == {"range": ["-Infinity", {"top": "NaN"}]}


def test_tree_draws_the_hierarchy(ocean: Path, capsys: Any) -> None:
    out = printed(capsys, "tree", str(ocean))
    assert [line.strip(" ├└─│") for line in out.splitlines()] == [
        "ocean.zarr",
        "surface",
        "temperature  12 × 90 × 180  float32",
        "time  12  datetime64[s]",
    ] or out.splitlines()[0].endswith("ocean.zarr")
    root = document(capsys, "tree", str(ocean))["root"]
    assert [child["name"] for child in root["children"]] == ["surface", "time"]
    assert root["children"][0]["children"][0]["path"] == "surface/temperature"


def test_tree_goes_down_as_many_levels_as_asked(ocean: Path, capsys: Any) -> None:
    root = document(capsys, "tree", str(ocean), "--level", "1")["root"]
    assert [child["children"] for child in root["children"]] == [[], []]
    assert "temperature" not in printed(capsys, "tree", str(ocean), "-L", "1")


def test_ls_lists_names_and_marks_groups(ocean: Path, capsys: Any) -> None:
    assert printed(capsys, "ls", str(ocean)).split() == ["surface/", "time"]
    assert printed(capsys, "ls", "-r", str(ocean)).split() == ["surface/", "surface/temperature", "time"]
    assert printed(capsys, "ls", str(ocean), "surface").split() == ["temperature"]
    assert printed(capsys, "ls", str(ocean), "time").split() == ["time"]


def test_ls_long_tells_the_sizes(ocean: Path, capsys: Any) -> None:
    entries = document(capsys, "ls", "-l", "-r", str(ocean))["entries"]
    assert [entry["nbytes"] for entry in entries] == [None, 12 * 90 * 180 * 4, 96]
    assert [entry["nbytes_stored"] is None for entry in entries] == [True, False, False]
    assert all(entry["nbytes_stored"] is None for entry in document(capsys, "ls", "-r", str(ocean))["entries"])
    out = printed(capsys, "ls", "-l", str(ocean))
    assert "96 bytes" in out and "datetime64[s]" in out


def test_repair_collects_what_crashed_writers_left(ocean: Path, capsys: Any) -> None:
    code = (
        "import os, zarrcy, threading\n"
        "store = zarrcy.stores.open('ocean.zarr')\n"
        "with store.lock('left/over'): os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60)
    left = [file for file in ocean.rglob("*") if file.is_file() and file.name.startswith(".")]
    assert len(left) == 1
    done = document(capsys, "repair", str(ocean))["done"]
    assert any("left" in line for line in done)
    assert not left[0].exists()
    assert printed(capsys, "repair", str(ocean)) == "nothing to repair\n"


def test_repair_makes_an_archive_of_a_killed_writer_whole(tmp_path: Path, capsys: Any) -> None:
    code = (
        "import os, sys, zarrcy\n"
        "store = zarrcy.stores.ZipStore(sys.argv[1], mode='w')\n"
        "zarrcy.create_array(store, shape=(4,), chunks=(2,), dtype='int8')[:] = 1\n"
        "store.sync()\n"
        "zarrcy.open(store)[:] = 2\n"
        "os._exit(1)\n"
    )
    place = str(tmp_path / "a.zip")
    subprocess.run([sys.executable, "-c", code, place], timeout=60)
    before = os.path.getsize(place)
    assert document(capsys, "repair", place)["done"] != []
    assert os.path.getsize(place) < before
    assert document(capsys, "repair", place)["done"] == []
    assert zarrcy.load(place).tolist() == [1, 1, 1, 1]


def test_stores_shows_every_store(capsys: Any) -> None:
    found = document(capsys, "stores")["stores"]
    assert [store["name"] for store in found] == zarrcy.stores.names()
    assert all(set(store) == {"name", "type", "persistence", "scalability", "latency", "use"} for store in found)
    out = printed(capsys, "stores")
    assert all(store["use"] in out for store in found)


def test_codecs_shows_every_codec_and_the_linked_libraries(capsys: Any) -> None:
    found = document(capsys, "codecs")
    assert [codec["name"] for codec in found["codecs"]] == zarrcy.codecs.registry.names()
    assert {codec["from"] for codec in found["codecs"] if codec["name"] == "zstd"} == {"zarrcy"}
    assert any("zstd" in name for name in found["libraries"])
    out = printed(capsys, "codecs")
    assert all(codec["name"] in out for codec in found["codecs"])


def test_config_shows_the_threads_and_the_build(capsys: Any) -> None:
    with zarrcy.use_threads(3):
        found = document(capsys, "config")
    assert found["threads"] == 3
    assert found["zarrcy"] == zarrcy.__version__
    assert found["codecs"] == document(capsys, "codecs")["libraries"]
    assert zarrcy.__version__ in printed(capsys, "config")
