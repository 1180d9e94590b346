"""`SQLiteStore` while writers are killed, while calls of the system fail, and what is flushed when."""

import os
import subprocess
import sys
from pathlib import Path

import array_cases as cases
import pytest
from sanitized import preloaded

import zarrcy

SCRIPT = Path(__file__).with_name("sqlite_workers.py")


def run(*arguments, **environment):
    """Runs the script; its assertions are this test's."""
    environment = os.environ | {"PYTHONPATH": str(Path(zarrcy.__file__).parents[1])} | environment
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = SCRIPT.with_name("filesystem_faults.c")
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return preloaded(library)


@pytest.mark.parametrize("n", [200, pytest.param(2000, marks=pytest.mark.long)])
def test_a_killed_writer_loses_nothing_acknowledged_and_leaves_no_part_of_a_transaction(tmp_path, n):
    n_cut = int(run("kills", tmp_path / "d", n))
    assert n_cut > n // 20  # else no writer was killed between the write and the end of the transaction


def test_a_process_killed_at_any_write_while_it_makes_the_file_is_in_nobodys_way(faults):
    with cases.directory_in_memory() as place:
        assert int(run("creations", place / "d", LD_PRELOAD=faults)) > 5


def test_a_durable_write_returns_when_the_log_has_been_flushed(tmp_path, faults):
    run("synced", tmp_path / "d", LD_PRELOAD=faults)


def test_when_the_nth_write_or_flush_fails_all_old_values_stay_or_all_new_ones_are_there(tmp_path, faults):
    assert int(run("failures", tmp_path / "d", LD_PRELOAD=faults)) > 5
