"""What a killed writer, a failing system call or a cut leaves of an archive: the last flushed state, whole."""

import os
import signal
import zipfile

import numpy as np
import pytest
from zip_files import archive, contents, fork

from zarrcy.errors import CodecError, StoreError
from zarrcy.stores.zip import ZipStore

N_KEYS = 5


def play(store, n):
    """The n-th round of writing: keys replaced, keys deleted, a value that is an archive, the number of the round."""
    random = np.random.default_rng(n)
    for _ in range(3):
        key = f"c/{random.integers(N_KEYS)}"
        if random.integers(4) == 0:
            store.delete(key)
        else:
            store.set(key, bytes([n % 256]) * int(random.choice([0, 10, 3000, 70_000])))
    store.set("nested.zip", archive([(b"n", b"-1"), (b"c/0", b"wrong")]))
    store.set("n", str(n).encode())


class Model(dict):
    def set(self, key, value):
        self[key] = bytes(value)

    def delete(self, key):
        self.pop(key, None)


def model(n_rounds):
    state = Model()
    for n in range(1, n_rounds + 1):
        play(state, n)
    return dict(state)


def write_until_killed(path, acknowledged, mode):
    store = ZipStore(path, mode=mode)
    n = int(bytes(store.get("n") or b"0"))
    while True:
        n += 1
        play(store, n)
        if n % 2 == 0:
            store.sync()
        os.write(acknowledged, n.to_bytes(4, "little"))


def kill_after(path, n_rounds, mode="a"):
    """Let a child write, kill it after so many rounds; the last round that it reported as flushed."""
    read, write = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            write_until_killed(path, write, mode)
        finally:
            os._exit(1)
    os.close(write)
    reported = b""
    for _ in range(n_rounds):
        reported = os.read(read, 4)
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    while more := os.read(read, 4):
        reported = more
    os.close(read)
    return int.from_bytes(reported, "little") // 2 * 2


def check_after_kill(path, n_reported):
    """The archive holds a flushed state no older than the last one that was reported. Returns its round."""
    found = contents(ZipStore(path))
    n = int(found.get("n", b"0"))
    assert n >= n_reported
    assert n % 2 == 0
    assert found == model(n)
    return n


def kills(path, n_kills, seed):
    random = np.random.default_rng(seed)
    n_with_tail = 0
    for _ in range(n_kills):
        n_reported = kill_after(path, int(random.integers(0, 7)))
        if path.exists():
            check_after_kill(path, n_reported)
            n_with_tail += not is_readable_by_others(path)
        else:
            assert n_reported == 0
    assert ZipStore(path).repair() is not None
    check_after_kill(path, 0)
    assert is_readable_by_others(path)
    assert os.listdir(path.parent) == ["a.zip"]
    path.unlink()
    return n_with_tail


def is_readable_by_others(path):
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None and b"wrong" not in [file.read(name) for name in file.namelist()]
    except zipfile.BadZipFile:
        return False


def test_200_kills_lose_no_archive_and_nothing_that_was_flushed(tmp_path):
    n_with_tail = sum(kills(tmp_path / "a.zip", 20, seed) for seed in range(10))
    # The kills did hit writers in the middle.
    assert n_with_tail >= 20


@pytest.mark.long
def test_2000_kills_lose_no_archive_and_nothing_that_was_flushed(tmp_path):
    assert sum(kills(tmp_path / "a.zip", 20, seed) for seed in range(1000, 1100)) >= 200


def test_a_killed_replacement_leaves_the_old_archive(tmp_path):
    path = tmp_path / "a.zip"
    with ZipStore(path) as store:
        store.set("old", b"1")
    assert kill_after(path, 0, mode="w") == 0
    found = contents(ZipStore(path))
    assert found == {"old": b"1"} or found == model(int(found["n"]))
    ZipStore(path, mode="a").close()
    assert os.listdir(tmp_path) == ["a.zip"]


def flushed_states(path):
    """An archive of three flushes, and (length of the file, contents) after each."""
    states = []
    store = ZipStore(path)
    for changes in ({"a": b"1", "b": b"22"}, {"a": b"333", "nested": archive([(b"a", b"wrong")])}, {"c/0": b"4" * 40}):
        for key, value in changes.items():
            store.set(key, value)
        store.sync()
        states.append((path.stat().st_size, contents(store)))
    store.set("never", archive([(b"a", b"flushed")]))
    tail = path.read_bytes()
    store.close()
    return tail, states


def test_an_archive_cut_at_any_byte_holds_the_last_whole_flush(tmp_path):
    data, states = flushed_states(tmp_path / "a.zip")
    path = tmp_path / "cut.zip"
    for n in range(states[0][0], len(data) + 1):
        path.write_bytes(data[:n])
        expected = [state for nbytes, state in states if nbytes <= n][-1]
        assert contents(ZipStore(path)) == expected, n


def test_an_archive_cut_inside_its_first_flush_is_an_error(tmp_path):
    data, states = flushed_states(tmp_path / "a.zip")
    path = tmp_path / "cut.zip"
    for n in range(states[0][0]):
        path.write_bytes(data[:n])
        with pytest.raises(StoreError, match=r"cut\.zip"):
            ZipStore(path).get("a")


def test_repair_makes_a_cut_archive_readable_by_others(tmp_path):
    data, states = flushed_states(tmp_path / "a.zip")
    path = tmp_path / "cut.zip"
    for n in range(states[0][0], len(data) + 1, 7):
        path.write_bytes(data[:n])
        expected = [state for nbytes, state in states if nbytes <= n][-1]
        done = ZipStore(path).repair()
        assert len(done) == (n not in [nbytes for nbytes, _ in states])
        assert ZipStore(path).repair() == []
        with zipfile.ZipFile(path) as file:
            assert file.testzip() is None
            assert {name: file.read(name) for name in file.namelist()} == expected
        assert contents(ZipStore(path)) == expected


def test_writing_goes_on_behind_the_last_flush_of_a_cut_archive(tmp_path):
    data, states = flushed_states(tmp_path / "a.zip")
    path = tmp_path / "cut.zip"
    for n in range(states[0][0], len(data) + 1, 11):
        path.write_bytes(data[:n])
        expected = [state for nbytes, state in states if nbytes <= n][-1]
        with ZipStore(path, mode="r+") as store:
            store.set("more", b"5")
        assert contents(ZipStore(path)) == expected | {"more": b"5"}
        with zipfile.ZipFile(path) as file:
            assert file.testzip() is None


def test_a_damaged_last_directory_is_an_error_until_it_is_repaired(tmp_path):
    data, states = flushed_states(tmp_path / "a.zip")
    path = tmp_path / "damaged.zip"
    n_found = 0
    stop = states[2][0]
    start = data.rindex(b"PK\x01\x02", 0, stop)
    name = range(start + 46, start + 46 + len("c/0"))
    # Damage to a name makes it another one, or none; nothing in the format tells.
    for i in [i for i in range(start, stop - 22) if i not in name]:
        damaged = bytearray(data[:stop])
        damaged[i] ^= 0x80
        path.write_bytes(damaged)
        try:
            found = contents(ZipStore(path))
        except StoreError as error:
            n_found += 1
            if error.code == "corrupt_directory":
                assert "repair" in error.hint
                assert ZipStore(path).repair()
                assert contents(ZipStore(path)) == states[1][1]
        except CodecError:
            n_found += 1
        else:
            # A bit that nobody reads.
            assert found == states[2][1]
    assert n_found > 20


def failing(calls, n, short):
    """The n-th call fails as on a full disk; a write may have stored a part before."""
    import errno

    count = [0]

    def wrap(call, is_write):
        def wrapper(*args):
            count[0] += 1
            if count[0] < n:
                return call(*args)
            if count[0] == n and is_write and short:
                fd, pieces, offset = args
                data = b"".join(map(bytes, pieces))
                return os.pwrite(fd, data[: len(data) // 2], offset)
            if count[0] > n + 1:
                return call(*args)
            raise OSError(errno.ENOSPC, "No space left on device")

        return wrapper

    return {name: wrap(call, name == "pwritev") for name, call in calls.items()}, count


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("durable", [False, True])
def test_whichever_system_call_fails_the_flushed_state_stays(tmp_path, monkeypatch, short, durable):
    calls = {name: getattr(os, name) for name in ("pwritev", "ftruncate", "fsync")}
    n, n_calls = 0, 1
    while n <= n_calls:
        n += 1
        path = tmp_path / f"{n}.zip"
        with monkeypatch.context() as patch:
            wrappers, count = failing(calls, n, short)
            for name, wrapper in wrappers.items():
                patch.setattr(os, name, wrapper)
            play_with_failures(path, durable)
            n_calls = count[0]
        found = contents(ZipStore(path))
        assert found == model(6), n
        with zipfile.ZipFile(path) as file:
            assert file.testzip() is None
    assert n > 20


def play_with_failures(path, durable):
    """Rounds of writing; one that fails is done again. After a failure the archive holds the last flushed state."""
    store = again(lambda: ZipStore(path, mode="a", durable=durable))
    flushed = {}
    for i in range(1, 7):

        def done(i=i):
            play(store, i)
            store.sync()

        def check(flushed=flushed, i=i):
            assert contents(ZipStore(path)) in (flushed, model(i))

        again(done, check)
        flushed = model(i)
    again(store.close)


def again(call, check=lambda: None):
    while True:
        try:
            return call()
        except StoreError as error:
            assert error.code == "enospc"
            check()
