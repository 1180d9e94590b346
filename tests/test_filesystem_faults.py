"""`FilesystemStore` when system calls fail, when the power fails, and when disk space or descriptors run out."""

import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pytest
from sanitized import preloaded

import zarrcy
from zarrcy.errors import StoreError
from zarrcy.stores.filesystem import FilesystemStore

SCRIPT = Path(__file__).with_name("filesystem_faults.py")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the calls are intercepted as Linux has them")


@pytest.fixture(scope="module")
def place():
    # In memory where there is such a place: thousands of files are made and synced.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as path:
        yield Path(path)


@pytest.fixture(scope="module")
def run(place, tmp_path_factory):
    """Runs a command of the script with the faulty calls; its assertions are the test's. Returns what it prints."""
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SCRIPT.with_suffix(".c"), "-ldl"], check=True)
    environment = os.environ | {"LD_PRELOAD": preloaded(library), "PYTHONPATH": str(Path(zarrcy.__file__).parents[1])}

    def call(command):
        root = place / command
        root.mkdir()
        result = subprocess.run(
            [sys.executable, str(SCRIPT), command, str(root)], env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout or "null")

    return call


def test_when_the_nth_call_of_a_write_fails_the_old_value_or_the_new_one_is_there(run):
    assert run("fail_writes") > 300


def test_when_the_nth_call_of_a_read_fails_there_is_an_exception_and_no_absent_key(run):
    assert run("fail_reads") > 100


@pytest.mark.bounds
def test_an_array_is_opened_with_few_calls(run):
    # v3: opens the directory and the document, asks for its length, reads. v2 looks for zarr.json first; its
    # attributes are read when they are used.
    assert run("opening") == {"2": 8, "3": 4}


def test_interrupted_and_short_calls_are_carried_on(run):
    assert run("interrupt") > 100


def test_a_process_killed_at_any_call_leaves_whole_values_and_nothing_that_lists(run):
    total, n_left = run("kill_at_every_call")
    assert total > 200
    assert n_left > 50


def test_a_temporary_file_that_is_taken_away_before_it_is_locked_is_not_the_lock(run):
    run("steal")


def test_when_the_nth_call_of_a_write_of_an_array_fails_each_chunk_is_the_old_one_or_the_new_one(run):
    assert run("fail_chunks") > 300


def test_interrupted_and_short_calls_of_a_write_of_an_array_are_carried_on(run):
    assert run("interrupt_chunks") > 30


def test_a_process_killed_at_any_call_of_a_write_of_an_array_leaves_whole_chunks(run):
    total, n_left = run("kill_chunks")
    assert total > 80
    assert n_left > 20


def test_an_old_kernel_follows_no_links(run):
    run("without_openat2")


def test_without_locks_the_last_writer_wins_and_the_store_says_so(run):
    run("without_locks")


# ---- power failure


class Disk:
    """What may be on the disk after a power failure.

    The rules: contents are safe once their file was synced. A change of a directory is safe once the directory was
    synced; of those after that any may be lost and any may be there. A rename is one change.
    """

    def __init__(self):
        self.inodes = {}  # path → inode, as the running system sees it
        self.dirty = set()
        self.numbers = itertools.count()
        self.safe = {".": {}}  # directory → name → inode, or "directory"
        self.pending = {".": []}  # directory → changes, each a list of (name, inode, "directory" or None)

    def change(self, path, *entries):
        self.pending[str(PurePosixPath(path).parent)].append([(PurePosixPath(p).name, inode) for p, inode in entries])

    def play(self, call, path, target=None):
        if call == "mkdir":
            self.safe[path], self.pending[path] = {}, []
            self.change(path, (path, "directory"))
        elif call == "create":
            if path not in self.inodes:
                self.inodes[path] = next(self.numbers)
                self.change(path, (path, self.inodes[path]))
        elif call == "write":
            self.dirty.add(self.inodes[path])
        elif call == "fsync" and path in self.pending:
            for entries in self.pending.pop(path):
                self.safe[path].update(entries)
            self.pending[path] = []
        elif call == "fsync":
            self.dirty.discard(self.inodes[path])
        elif call == "rename":
            self.inodes[target] = self.inodes.pop(path)
            self.change(path, (path, None), (target, self.inodes[target]))
        elif call == "unlink":
            if path in self.inodes:
                del self.inodes[path]
            self.change(path, (path, None))
        else:
            raise AssertionError(call)

    def states(self, directory):
        """Every set of entries that the directory may have."""
        pending = self.pending[directory]
        for kept in itertools.product((False, True), repeat=len(pending)):
            entries = dict(self.safe[directory])
            for changes, is_kept in zip(pending, kept, strict=True):
                if is_kept:
                    entries.update(changes)
            yield entries

    def found(self, key):
        """Every inode, or None, that the key may lead to."""
        *folders, name = PurePosixPath(key).parts
        path, may_be_missing = PurePosixPath("."), False
        for folder in folders:
            if any(state.get(folder) is None for state in self.states(str(path))):
                may_be_missing = True
            path /= folder
            if str(path) not in self.safe:
                return {None}
        found = {state.get(name) for state in self.states(str(path))}
        return found | {None} if may_be_missing else found


def faults_after_power_failure(events):
    """Replays the events, with a power failure after each: what was found wrong."""
    disk = Disk()
    acknowledged = {}  # key → inode
    for call, *arguments in events:
        if call == "done":
            name, key = arguments
            acknowledged[key] = None if name == "delete" else disk.inodes[key]
        else:
            disk.play(call, *arguments)
        for key, inode in acknowledged.items():
            for found in disk.found(key):
                if found in disk.dirty:
                    yield f"after {call} {arguments}: {key} may be torn"
                elif call == "done" and found != inode:
                    yield f"after {call} {arguments}: the acknowledged change of {key} may be lost"


def test_durable_values_survive_a_power_failure_after_any_call(run):
    logs = run("record")
    events = logs["durable"]
    assert [event[2] for event in events if event[0] == "done"] == [
        *("a/b/k", "a/b/k", "a/c/k", "k", "a/b/k", "a/b/k", "a/c/k", "a/c/k", "k")
    ]
    assert list(faults_after_power_failure(events)) == []
    # The model notices what is missing: each sync is needed, and without any nothing is promised.
    for i, event in enumerate(events):
        if event[0] == "fsync" and event[1] not in (".", "a"):
            assert next(faults_after_power_failure(events[:i] + events[i + 1 :]), None), f"not needed: {event}"
    assert next(faults_after_power_failure(logs["plain"]))


# ---- nothing left


@contextmanager
def limited(what, limit):
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


@contextmanager
def small_disk(path):
    """A file system of 1 MiB: root mounts one, for others the limit is on the size of a file."""
    if os.geteuid() != 0:
        with limited(resource.RLIMIT_FSIZE, 1 << 20):
            yield "efbig"
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], check=True)
    try:
        yield "enospc"
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("durable", [False, True])
def test_a_full_disk_keeps_the_old_value(tmp_path, durable):
    with small_disk(tmp_path) as code, FilesystemStore(tmp_path, durable=durable) as store:
        store.set("c/0", b"old" * 1000)
        for key in ("c/0", "d/new"):
            with pytest.raises(StoreError) as caught:
                store.set(key, bytes(2 << 20))
            assert caught.value.code == code
            assert str(tmp_path) in str(caught.value)
            assert caught.value.hint
        assert store.get("c/0") == b"old" * 1000
        assert list(store.list_prefix()) == ["c/0"]
        # Nothing takes up space, so that the next value fits.
        store.set("c/0", bytes(600_000))
        assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["0"]


def test_a_limit_on_the_size_of_files_keeps_the_old_value(tmp_path):
    store = FilesystemStore(tmp_path)
    store.set("k", b"old")
    with limited(resource.RLIMIT_FSIZE, 100_000), pytest.raises(StoreError) as caught:
        store.set("k", bytes(100_001))
    assert caught.value.code == "efbig"
    assert "ulimit -f" in caught.value.hint
    assert store.get("k") == b"old"
    assert os.listdir(tmp_path) == ["k"]


def test_without_descriptors_the_old_value_stays_and_reads_are_errors(run):
    run("without_descriptors")
