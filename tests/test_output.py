"""The arrays that reads return are NumPy arrays like any other, and large ones lie where reading is fast."""

import os
import subprocess
import sys

import numpy as np
import pytest

import zarrcy


@pytest.fixture
def array(tmp_path):
    a = zarrcy.create_array(tmp_path / "a.zarr", shape=(1024, 1024), chunks=(64, 64), dtype="f8")
    a[...] = np.arange(1024 * 1024.0).reshape(1024, 1024)
    return a


@pytest.mark.parametrize("key", [(), (3, 4), slice(0, 2), slice(0, 700), (slice(None, None, 2), 5)])
def test_a_result_owns_its_memory(array, key):
    got = np.asarray(array[key])
    assert got.flags.owndata and got.flags.writeable and got.base is None


def test_a_large_result_does_not_lie_16_bytes_past_a_page(array):
    results = [array[: 64 * i] for i in range(1, 17)]
    assert all(result.ctypes.data % 128 == 0 for result in results)


def test_a_large_result_can_change_its_size(array):
    result = array[...]
    result.resize((3000, 1024), refcheck=False)
    assert (result[:1024] == array[...]).all() and (result[1024:] == 0).all()
    result.resize((2, 1024), refcheck=False)
    assert (result == np.arange(2048.0).reshape(2, 1024)).all()


def test_other_arrays_get_their_memory_from_numpy(array):
    array[...]
    assert np._core.multiarray.get_handler_name(array[...]) == "zarrcy"
    assert np._core.multiarray.get_handler_name(np.empty(1 << 20)) == "default_allocator"


@pytest.mark.bounds
def test_results_are_freed(tmp_path):
    """The peak of many reads is that of one."""
    code = (
        "import resource, sys, zarrcy\n"
        "a = zarrcy.open_array(sys.argv[1])\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "a[...]; before = peak()\n"
        "for _ in range(20): a[...]\n"
        "print(peak() - before)\n"
    )
    a = zarrcy.create_array(tmp_path / "a.zarr", shape=(1 << 20,), chunks=1 << 16, dtype="f8")
    a[...] = 1
    command = [sys.executable, "-c", code, os.fspath(tmp_path / "a.zarr")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert grown < 8 << 10  # KiB, of 8 MiB for each
