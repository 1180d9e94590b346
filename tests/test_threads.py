"""How many threads calls use, and what `run_with_helpers` promises."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import array_cases as cases
import numpy as np
import pytest

import zarrcy
from zarrcy.kernels import pool
from zarrcy.threads import map_unordered, pause, run_with_helpers

ROOT = Path(zarrcy.__file__).parents[1]


def in_a_new_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "ZARRCY_NUM_THREADS"}
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**variables, "PYTHONPATH": str(ROOT), **environment},
    )


@pytest.fixture(autouse=True)
def default_threads() -> None:
    zarrcy.set_threads(None)


def test_by_default_calls_use_the_cpus_of_the_process() -> None:
    expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    done = in_a_new_process("import zarrcy; print(zarrcy.get_threads())")
    assert done.stdout.strip() == str(expected)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux lets a process choose its CPUs")
def test_cpus_that_the_process_may_not_use_do_not_count() -> None:
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); import zarrcy; print(zarrcy.get_threads())"
    )
    assert in_a_new_process(code).stdout.strip() == "1"


def test_an_environment_variable_sets_the_default() -> None:
    code = "import zarrcy as z; print(z.get_threads()); z.set_threads(2); z.set_threads(None); print(z.get_threads())"
    assert in_a_new_process(code, ZARRCY_NUM_THREADS="7").stdout.split() == ["7", "7"]


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "", " "])
def test_an_environment_variable_that_is_no_number_is_an_error_that_names_it(text: str) -> None:
    done = in_a_new_process("import zarrcy; zarrcy.get_threads()", ZARRCY_NUM_THREADS=text)
    assert done.returncode == 1
    assert "ZARRCY_NUM_THREADS: expected a positive whole number" in done.stderr


def test_set_threads_is_for_the_process_and_use_threads_for_the_context() -> None:
    zarrcy.set_threads(5)
    assert zarrcy.get_threads() == 5
    with zarrcy.use_threads(3):
        assert zarrcy.get_threads() == 3
        zarrcy.set_threads(6)
        assert zarrcy.get_threads() == 3
        with zarrcy.use_threads(1):
            assert zarrcy.get_threads() == 1
        assert zarrcy.get_threads() == 3
        seen = []
        thread = threading.Thread(target=lambda: seen.append(zarrcy.get_threads()))
        thread.start()
        thread.join()
        assert seen == [6]
        assert contextvars.copy_context().run(zarrcy.get_threads) == 3
    assert zarrcy.get_threads() == 6


def test_use_threads_ends_with_an_error_too() -> None:
    zarrcy.set_threads(4)
    with pytest.raises(KeyError), zarrcy.use_threads(2):
        raise KeyError
    assert zarrcy.get_threads() == 4


@pytest.mark.parametrize("n", [0, -3])
def test_fewer_than_one_thread_is_an_error(n: int) -> None:
    for call in (zarrcy.set_threads, lambda n: zarrcy.use_threads(n).__enter__()):
        with pytest.raises(ValueError, match="at least 1"):
            call(n)


def test_the_caller_takes_part_and_all_is_done_once_when_the_call_returns() -> None:
    for _ in range(20):
        items = iter(range(1000))
        seen: list[int] = []
        workers: list[int] = []

        def work(items: Any = items, seen: Any = seen, workers: Any = workers) -> None:
            workers.append(threading.get_ident())
            for item in items:
                seen.append(item)

        run_with_helpers(work, 8)
        assert sorted(seen) == list(range(1000))
        assert threading.get_ident() in workers
        n_workers = len(workers)
        assert n_workers <= 8
        time.sleep(0.001)
        assert len(workers) == n_workers  # helpers that had not started do not start later


def test_a_call_does_not_wait_for_threads_that_are_busy() -> None:
    """Other calls hold every helper; a new one does its work alone."""
    release = threading.Event()
    started = threading.Semaphore(0)

    def block() -> None:
        started.release()
        release.wait(30)

    caller = threading.Thread(target=run_with_helpers, args=(block, 129))
    caller.start()
    try:
        assert all(started.acquire(timeout=30) for _ in range(129))
        counter = iter(range(100))
        threads = set()
        run_with_helpers(lambda: [threads.add(threading.get_ident()) for _ in counter] and None, 4)
        assert threads == {threading.get_ident()}
        array = zarrcy.array(np.arange(1000), chunks=10)
        with zarrcy.use_threads(8):
            assert (array[:] == np.arange(1000)).all()
    finally:
        release.set()
        caller.join()


def test_one_thread_is_the_caller_alone() -> None:
    threads = set()
    run_with_helpers(lambda: threads.add(threading.get_ident()), 1)
    assert threads == {threading.get_ident()}


def test_the_first_error_is_raised_after_every_started_helper_is_done() -> None:
    running: set[int] = set()
    started = threading.Barrier(3)

    def work() -> None:
        running.add(threading.get_ident())
        number = started.wait(30)
        try:
            if number == 1:
                raise ValueError("one of them")
            time.sleep(0.05)
        finally:
            running.discard(threading.get_ident())

    with pytest.raises(ValueError, match="one of them"):
        run_with_helpers(work, 3)
    assert not running


def test_an_error_of_the_caller_wins() -> None:
    caller = threading.get_ident()

    def work() -> None:
        raise (KeyError("caller") if threading.get_ident() == caller else ValueError("helper"))

    with pytest.raises(KeyError, match="caller"):
        run_with_helpers(work, 4)


def test_helpers_see_the_context_of_the_caller() -> None:
    seen = []
    both = threading.Barrier(2)

    def work() -> None:
        both.wait(30)
        seen.append(zarrcy.get_threads())

    with zarrcy.use_threads(2):
        run_with_helpers(work, 2)
    assert seen == [2, 2]


def test_calls_within_helpers_and_from_many_threads_end() -> None:
    items = np.arange(40_000).reshape(200, 200)
    array = zarrcy.array(items, chunks=(10, 10))
    zarrcy.set_threads(4)
    rows = iter(range(200))

    def work() -> None:
        for row in rows:
            assert (array[row] == items[row]).all()  # a call within a helper, with helpers of its own

    callers = [threading.Thread(target=run_with_helpers, args=(work, 3)) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
        assert not caller.is_alive()
    assert next(rows, None) is None


def test_many_callers_share_the_native_pool(tmp_path: Path) -> None:
    items = np.random.default_rng(1).integers(0, 9, (256, 512))
    array = zarrcy.array(items, str(tmp_path / "a"), chunks=(16, 64))
    zarrcy.set_threads(3)
    failures = []

    def read() -> None:
        for _ in range(10):
            if not (array[...] == items).all():
                failures.append(1)

    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert pool.n_started_threads() >= 1


def test_one_thread_starts_no_others() -> None:
    code = """
import threading, tempfile, numpy, zarrcy
from zarrcy.kernels import pool
from zarrcy.stores.memory import MemoryStore
with tempfile.TemporaryDirectory() as path, zarrcy.use_threads(1):
    for store in (MemoryStore(), path):
        a = zarrcy.create_array(store, shape=(512, 512), chunks=(32, 32))
        a[...] = numpy.random.default_rng(0).random((512, 512))
        a[...]
print(pool.n_started_threads(), threading.active_count())
"""
    assert in_a_new_process(code).stdout.split() == ["0", "1"], in_a_new_process(code).stderr


def test_a_forked_child_has_threads_of_its_own() -> None:
    code = """
import os, tempfile, numpy, zarrcy
from zarrcy.kernels import pool
from zarrcy.stores.memory import MemoryStore
zarrcy.set_threads(3)
with tempfile.TemporaryDirectory() as path:
    items = numpy.random.default_rng(0).random((512, 512))
    arrays = [zarrcy.array(items, store, chunks=(32, 32)) for store in (MemoryStore(), path)]
    assert pool.n_started_threads() == 2
    child = os.fork()
    if child == 0:
        before = pool.n_started_threads()
        ok = all((a[...] == items).all() for a in arrays)
        os._exit(0 if ok and before == 0 and pool.n_started_threads() == 2 else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), all((a[...] == items).all() for a in arrays))
"""
    assert in_a_new_process(code).stdout.split() == ["0", "True"], in_a_new_process(code).stderr


def test_results_do_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    items = np.random.default_rng(2).integers(0, 99, (97, 101))
    for kind in ("memory", "filesystem", "subclass"):
        for shards in (None, (40, 40)):
            stored = []
            for n in (1, 2, 7):
                place = tmp_path / f"{kind}{n}{shards}"
                place.mkdir()
                with zarrcy.use_threads(n):
                    store = cases.make_store(kind, place)
                    array = zarrcy.array(items, store, chunks=(8, 8), shards=shards)
                    array[3:50:2, ::-3] = items[3:50:2, ::-3] + 1
                    stored.append({key: bytes(store.get(key)) for key in store.list_prefix()})
                    for m in (1, 2, 7):
                        with zarrcy.use_threads(m):
                            assert cases.bits(array[5:, ::-1]) == cases.bits(zarrcy.load(store)[5:, ::-1])
            assert stored[0] == stored[1] == stored[2]


def test_an_error_wakes_the_threads_of_its_call_that_pause() -> None:
    paused = threading.Event()
    counter = iter(range(3))

    def work() -> None:
        for i in counter:
            if i == 2:
                paused.wait(30)
                raise KeyError("the reason")
            paused.set()
            pause(60)

    begin = time.monotonic()
    with pytest.raises(KeyError, match="the reason"):
        run_with_helpers(work, 3)
    assert time.monotonic() - begin < 30


def test_an_error_wakes_those_who_pause_in_a_call_inside() -> None:
    paused = threading.Event()
    counter = iter(range(2))

    def work() -> None:
        for i in counter:
            if i == 1:
                paused.wait(30)
                raise KeyError("the reason")
            paused.set()
            list(map_unordered(lambda _: pause(60), range(4), 2))

    begin = time.monotonic()
    with pytest.raises(KeyError, match="the reason"):
        run_with_helpers(work, 2)
    assert time.monotonic() - begin < 30


def test_who_catches_an_error_of_a_call_goes_on() -> None:
    def fail(_: object) -> None:
        raise KeyError("the reason")

    def work() -> None:
        for _ in counter:
            with pytest.raises(KeyError):
                list(map_unordered(fail, range(4), 3))
            pause(0.001)
            done.append(1)

    counter, done = iter(range(10)), []
    run_with_helpers(work, 3)
    assert len(done) == 10


def test_a_map_gives_each_result_once_and_begins_nothing_after_an_error() -> None:
    assert sorted(map_unordered(lambda i: i * i, range(200), 7)) == [i * i for i in range(200)]
    begun = []

    def work(i: int) -> int:
        begun.append(i)
        if i == 20:
            raise KeyError(i)
        return i

    with pytest.raises(KeyError):
        list(map_unordered(work, range(1000), 4))
    assert len(begun) < 60


def test_a_map_that_is_closed_early_begins_nothing_more_and_runs_ahead_by_little() -> None:
    begun = []
    results = map_unordered(lambda i: begun.append(i), range(1000), 4)
    for _ in range(5):
        next(results)
    results.close()
    n = len(begun)
    assert 5 <= n <= 5 + 2 * 4 + 4
    time.sleep(0.05)
    assert len(begun) == n


def test_an_error_of_the_items_is_raised_as_it_is() -> None:
    def items() -> Any:
        yield 1
        raise KeyError("of the items")

    with pytest.raises(KeyError, match="of the items"):
        list(map_unordered(lambda i: i, items(), 3))


@pytest.mark.parametrize("keep", ["g", "globals()['keep'] = [g]", "g.close() if os.fork() == 0 else os.wait()"])
def test_a_map_that_nobody_goes_on_with_keeps_no_thread_and_no_program(keep: str) -> None:
    code = f"""if True:
        import os
        from zarrcy.threads import map_unordered
        g = map_unordered(str, range(1000), 4)
        next(g)
        {keep}
    """
    done = in_a_new_process(code)
    assert done.returncode == 0, done.stderr


def test_maps_that_nobody_goes_on_with_leave_the_threads_to_others() -> None:
    kept = [map_unordered(str, range(10_000), 40) for _ in range(6)]
    for each in kept:
        next(each)
    together = threading.Barrier(8)
    assert sorted(map_unordered(lambda i: (together.wait(30) and i) or i, range(8), 8)) == list(range(8))
    for each in kept:
        each.close()


def test_a_map_inside_a_call_that_stops_does_not_end_as_if_it_were_complete() -> None:
    paused = threading.Event()
    counter, complete = iter(range(2)), []

    def work() -> None:
        for i in counter:
            if i == 1:
                paused.wait(30)
                raise KeyError("the reason")
            paused.set()
            complete.append(list(map_unordered(lambda _: pause(60), range(4), 2)))

    with pytest.raises(KeyError):
        run_with_helpers(work, 2)
    assert complete == []


def test_calls_work_where_no_thread_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("concurrent.futures.ThreadPoolExecutor.submit", refuse)
    counter = iter(range(5))
    run_with_helpers(lambda: [None for _ in counter] and None, 4)
    assert next(counter, None) is None
    assert sorted(map_unordered(str, range(5), 4)) == list("01234")
