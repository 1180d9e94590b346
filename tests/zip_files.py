"""Archives for the tests, made by hand, and what is common to them."""

import os
import struct
import warnings
import zlib

from zarrcy.stores.zip import ZipStore
from zarrcy.stores.zip_directory import Entry, pack_directory, pack_local_header

ITEMS = {"zarr.json": b"{}", "c/0/0": b"a" * 1000, "c/0/1": b"", "größe/0": bytes(range(256))}


def filled(path, items=ITEMS, **options):
    with ZipStore(path, mode="a", **options) as store:
        for key, value in items.items():
            store.set(key, value)
    return path


def archive(items, *, flags=0x800, directory=None):
    """The bytes of an archive of (name, value) pairs; `directory` may change the (name, entry) pairs before packing."""
    data, entries = b"", []
    for name, value in items:
        entry = Entry(len(data), len(value), len(value), zlib.crc32(value), 0, flags)
        data += pack_local_header(name, entry) + value
        entries.append((name, entry))
    return data + pack_directory(directory(entries) if directory else entries, len(data))


def end_record(n_entries, nbytes, start, *, comment=b""):
    return struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, n_entries, n_entries, nbytes, start, len(comment)) + comment


def contents(store):
    return {key: bytes(store.get(key)) for key in store.list_prefix()}


def fork():
    """Fork without the warning of newer Pythons: the children only touch the store, and end with `os._exit`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def in_child(work):
    """Run `work` in a forked child; the text that it returned, or of its error."""
    read, write = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            text = str(work())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text
