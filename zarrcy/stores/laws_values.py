"""The laws of keys, values, parts and listings."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from zarrcy.stores.laws import Laws, answers, brief, expect, expect_error, expect_value, listed, value_of
from zarrcy.stores.store import Store

__all__ = ["LAWS"]

LAWS = Laws()

LENGTHS = (0, 1, 5, 100 * 1024, 9 * 1024 * 1024)
UNICODE_KEYS = ("größe/0", "数据/c/0", "c/🦜", "a b/c d", "%2e/%2F", "c:0", "key.with.dots/.zarray", "~/$HOME")
BAD_KEYS = (
    *("", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", "./a"),
    *("a\\b", "\\a", "a\0b", "a\nb", "a\x7fb", "\ud800", "C:\\a"),
)
BAD_PREFIXES = ("a", "/", "a/b", "../", "a//", "./", "a\0/")


# Keys and values


@LAWS.add
def a_missing_key_is_none(store: Store) -> None:
    store.set("a/b/c", b"1")
    # Not "a" or "a/b/c/d": on a file system a name is a directory or a file, and the other use of it is an error.
    for key in ("x", "a/x", "a/bb", "a/b/x", "x/y/z", "zarr.json"):
        expect_value(store, key, None)
        expect(store.get(key, slice(0, 1)) is None, f"get({key!r}, part): expected None for a missing key")
        expect(store.size(key) is None, f"size({key!r}): expected None for a missing key")
        expect(store.exists(key) is False, f"exists({key!r}): expected False for a missing key")


@LAWS.add
def a_value_comes_back_as_it_was_stored(store: Store) -> None:
    for n in LENGTHS:
        value = value_of(n)
        store.set(f"c/{n}", value)
        expect_value(store, f"c/{n}", value)
        expect(store.size(f"c/{n}") == n, f"size: expected {n}, got {store.size(f'c/{n}')}")
        expect(store.exists(f"c/{n}") is True, "exists: expected True for a key that was set")


@LAWS.add
def a_value_may_be_any_buffer(store: Store) -> None:
    numbers: Any = np.arange(12, dtype="<f8")
    values: list[Any] = [
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abc"),
        memoryview(numbers),
        numbers,
        numbers.reshape(3, 4),
    ]
    values += [numbers.astype(">f8"), np.empty((0, 3)), np.array(5, "u2"), memoryview(b"abcdef")[2:4]]
    for i, value in enumerate(values):
        store.set(f"c/{i}", value)
        expect_value(store, f"c/{i}", memoryview(value).tobytes())


@LAWS.add
def a_buffer_with_gaps_is_stored_in_order_or_refused(store: Store) -> None:
    values: list[Any] = [memoryview(b"abcdef")[::2], np.arange(12).reshape(3, 4)[:, ::2], np.arange(12).reshape(3, 4).T]
    for value in values:
        store.set("c/0", b"old")
        try:
            store.set("c/0", value)
        except (TypeError, ValueError, BufferError):
            expect_value(store, "c/0", b"old")
        else:
            expect_value(store, "c/0", memoryview(value).tobytes())


@LAWS.add
def what_is_no_buffer_is_refused(store: Store) -> None:
    values: list[Any] = ["text", 5, None, [1, 2], object()]
    for value in values:
        expect_error((TypeError, ValueError), partial(store.set, "c/0", value), f"set of {value!r}")
    expect_value(store, "c/0", None)


@LAWS.add
def changing_the_buffer_afterwards_changes_nothing(store: Store) -> None:
    values: list[Any] = [bytearray(b"abcd"), np.arange(4, dtype="u1")]
    for i, value in enumerate(values):
        key = f"c/{i}"
        before = bytes(value)
        store.set(key, value)
        value[0] = 200
        expect_value(store, key, before)


@LAWS.add
def set_replaces(store: Store) -> None:
    for value in (value_of(1000), b"", value_of(3), value_of(70000), value_of(1000, seed=1)):
        store.set("c/0", value)
        expect_value(store, "c/0", value)
    expect(list(store.list_prefix()) == ["c/0"], "list_prefix: expected one key after replacing it")


@LAWS.add
def delete_removes_and_an_absent_key_is_fine(store: Store) -> None:
    store.set("c/0", b"1")
    store.set("c/00", b"2")
    store.delete("c/0")
    store.delete("c/0")
    store.delete("never/there")
    expect_value(store, "c/0", None)
    expect_value(store, "c/00", b"2")
    expect(list(store.list_prefix()) == ["c/00"], "list_prefix: expected the deleted key to be gone")
    store.set("c/0", b"3")
    expect_value(store, "c/0", b"3")


# Parts


@LAWS.add
def a_part_is_a_slice_of_the_value(store: Store) -> None:
    edges = (None, 0, 1, 2, 7, 8, 9, 100, -1, -2, -7, -8, -9, -100, 2**40, -(2**40))
    for n in (0, 1, 8):
        value = value_of(n)
        store.set("c/0", value)
        for part in [slice(a, b) for a in edges for b in edges] + [slice(0, 4, 1)]:
            got = store.get("c/0", part)
            expect(got is not None, f"get({n} bytes, {part}): expected a value, got None")
            expect(
                bytes(got or b"") == value[part], f"get({n} bytes, {part}): expected {value[part]!r}, got {brief(got)}"
            )


@LAWS.add
def a_part_of_a_large_value_is_its_slice(store: Store) -> None:
    n = LENGTHS[-1]
    value = value_of(n)
    store.set("c/0", value)
    for part in (
        slice(0, 1),
        slice(-1, None),
        slice(4095, 4097),
        slice(n // 2, n // 2 + 70000),
        slice(-70000, -5),
        slice(1, n),
    ):
        got = store.get("c/0", part)
        expect(got is not None and bytes(got) == value[part], f"get({n} bytes, {part}): got other bytes")


@LAWS.add
def a_part_with_a_step_is_refused(store: Store) -> None:
    store.set("c/0", b"abcdef")
    for step in (2, -1, 3):
        expect_error(ValueError, partial(store.get, "c/0", slice(None, None, step)), f"get with step {step}")


# Keys and listings


@LAWS.add
def keys_may_be_unicode(store: Store) -> None:
    for i, key in enumerate(UNICODE_KEYS):
        store.set(key, bytes([i]))
    for i, key in enumerate(UNICODE_KEYS):
        expect_value(store, key, bytes([i]))
    expect(set(store.list_prefix()) == set(UNICODE_KEYS), "list_prefix: expected the keys as they were set")


@LAWS.add
def keys_differ_by_case(store: Store) -> None:
    store.set("a/B", b"1")
    store.set("a/b", b"2")
    expect_value(store, "a/B", b"1")
    expect_value(store, "a/b", b"2")


@LAWS.add
def bad_keys_are_refused(store: Store) -> None:
    for key in BAD_KEYS:
        for what, call in (
            ("get", partial(store.get, key)),
            ("set", partial(store.set, key, b"1")),
            ("delete", partial(store.delete, key)),
            ("size", partial(store.size, key)),
            ("exists", partial(store.exists, key)),
            ("get_many", partial(answers, store, key)),
            ("set_many", partial(store.set_many, [(key, b"1")])),
        ):
            expect_error(ValueError, call, f"{what}({key!r})")
    expect(list(store.list_prefix()) == [], "list_prefix: expected no key after only bad ones")


@LAWS.add
def bad_prefixes_are_refused(store: Store) -> None:
    store.set("a/b", b"1")
    for prefix in BAD_PREFIXES:
        for what, call in (
            ("list_prefix", partial(listed, store.list_prefix, prefix)),
            ("list_dir", partial(listed, store.list_dir, prefix)),
            ("delete_prefix", partial(store.delete_prefix, prefix)),
        ):
            expect_error(ValueError, call, f"{what}({prefix!r})")
    expect_value(store, "a/b", b"1")


TREE = ("zarr.json", "temp/zarr.json", "temp/c/0/0", "temp/c/0/1", "temp/c/1/0", "temp2/zarr.json", "temp.x", "tem/p")


@LAWS.add
def list_prefix_gives_the_keys_below(store: Store) -> None:
    expect(list(store.list_prefix()) == [], "list_prefix: expected nothing in an empty store")
    for key in TREE:
        store.set(key, key.encode())
    for prefix in ("", "temp/", "temp/c/", "temp/c/0/", "temp2/", "te/", "zarr.json/", "temp/c/0/0/"):
        expected = sorted(key for key in TREE if key.startswith(prefix))
        got = sorted(store.list_prefix(prefix))
        expect(got == expected, f"list_prefix({prefix!r}): expected {expected}, got {got}")


@LAWS.add
def list_dir_gives_what_lies_directly_below(store: Store) -> None:
    expect(list(store.list_dir()) == [], "list_dir: expected nothing in an empty store")
    for key in TREE:
        store.set(key, key.encode())
    table = {
        "": ["tem/", "temp.x", "temp/", "temp2/", "zarr.json"],
        "temp/": ["c/", "zarr.json"],
        "temp/c/": ["0/", "1/"],
        "temp/c/0/": ["0", "1"],
        "te/": [],
    }
    for prefix, expected in table.items():
        got = sorted(store.list_dir(prefix))
        expect(got == expected, f"list_dir({prefix!r}): expected {expected}, got {got}")


@LAWS.add
def a_prefix_that_lost_its_last_key_is_not_listed(store: Store) -> None:
    store.set("a/b/c", b"1")
    store.set("d", b"2")
    store.delete("a/b/c")
    expect(list(store.list_dir()) == ["d"], f"list_dir: expected ['d'], got {list(store.list_dir())}")


@LAWS.add
def delete_prefix_deletes_what_lies_below(store: Store) -> None:
    for key in TREE:
        store.set(key, b"1")
    store.delete_prefix("temp/")
    store.delete_prefix("absent/")
    got = sorted(store.list_prefix())
    expected = sorted(key for key in TREE if not key.startswith("temp/"))
    expect(got == expected, f"delete_prefix('temp/'): expected {expected} to be left, got {got}")
    store.delete_prefix("")
    expect(list(store.list_prefix()) == [], "delete_prefix(''): expected an empty store")


@LAWS.add
def a_listing_bears_changes_while_it_runs(store: Store) -> None:
    for i in range(50):
        store.set(f"c/{i}", b"1")
    seen = []
    for key in store.list_prefix("c/"):
        seen.append(key)
        store.delete(key)
        store.set(f"d/{len(seen)}", b"1")
    expect(
        len(seen) == len(set(seen)) == 50, f"list_prefix while deleting: expected 50 keys once each, got {len(seen)}"
    )
