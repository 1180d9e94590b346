"""`FilesystemStore` while writers are killed, and while many write and read one key."""

import pytest
from child_scripts import run_script


def run(*arguments):
    return run_script("filesystem_writers.py", *arguments, timeout=900)


@pytest.mark.parametrize(("n", "durable"), [(50, ""), (40, "durable"), pytest.param(2000, "", marks=pytest.mark.long)])
def test_a_killed_writer_leaves_whole_values_and_nothing_that_lists(tmp_path, n, durable):
    n_left = int(run("kills", tmp_path, n, durable))
    assert n_left > 0  # else no writer was killed in the middle of a write


@pytest.mark.parametrize(("nbytes", "n"), [(1 << 20, 2000), pytest.param(16 << 20, 20_000, marks=pytest.mark.long)])
def test_readers_see_the_old_value_or_the_new_one(tmp_path, nbytes, n):
    run("readers", tmp_path, nbytes, n)


@pytest.mark.parametrize(("processes", "threads", "n"), [(4, 4, 25), pytest.param(16, 8, 50, marks=pytest.mark.long)])
def test_no_increment_is_lost(tmp_path, processes, threads, n):
    run("increments", tmp_path, processes, threads, n)


def test_a_forked_child_works_and_leaves_its_parents_locks_alone(tmp_path):
    run("forks", tmp_path)
