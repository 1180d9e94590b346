"""`FilesystemStore`: a directory, one file for each value; the standard layout of Zarr v2 and v3.

A value is written into a temporary file beside it and renamed over it: readers, and whoever comes after a crash, find
the old value or the new one. The temporary file is also the lock of its key (see
``zarrcy/kernels/posix_locks.pxd``), so that writers in other threads and processes wait for each other. Where the file
system has no locks the last writer wins, and `supports_cas` is False.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

from zarrcy.errors import StoreError
from zarrcy.kernels.posix import Directory
from zarrcy.kernels.posix_errors import absolute_path, file_url, store_error
from zarrcy.stores.files import Files, HeldKey, has_temporary, is_plain_path, is_temporary, path_of, with_value
from zarrcy.stores.store import Buffer, Store, Version, check_prefix

__all__ = ["FilesystemStore"]

# Where there are no locks, a temporary file that was not touched for so long is taken for a crashed writer's.
ABANDONED_AFTER_SECONDS = 24 * 3600


class _HeldKeys(threading.local):
    """The locks that a thread holds through `FilesystemStore.lock`: (path of the store, path of the key) → lock."""

    def __init__(self) -> None:
        self.table: dict[tuple[str, bytes], HeldKey] = {}


_held = _HeldKeys()


class FilesystemStore(Store):
    """Values in files below a directory.

    Symbolic links are followed as long as they stay inside the directory; one that leads out of it is an error. A
    key that is a directory, or that lies below a file, is an error as well and not an absent key.

    Parameters
    ----------
    path : str or os.PathLike
        The directory, or its ``file://`` URL. It is made absolute here, so that a later `os.chdir` changes
        nothing. The first write makes it; the directory that it lies in must exist.
    read_only : bool, default False
        Refuse to write.
    durable : bool, default False
        Return from a write when the value would survive a power failure (two ``fsync`` for each).

    Raises
    ------
    ValueError
        The path is empty or holds a NUL.

    Examples
    --------
    >>> import tempfile
    >>> from zarrcy.stores.filesystem import FilesystemStore
    >>> with tempfile.TemporaryDirectory() as path:
    ...     store = FilesystemStore(path)
    ...     store.set("group/zarr.json", b"{}")
    ...     print(list(store.list_prefix()), store.get("group/zarr.json"), store.get("nothing"))
    ['group/zarr.json'] b'{}' None
    """

    kind = "Disk"
    persistence = "Yes"
    scalability = "Single machine, shared file system"
    latency = "Low"
    use = "Local development, standard Zarr format"

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False, durable: bool = False) -> None:
        self.path = path if type(path) is str and is_plain_path(path) else _absolute(path)
        self.read_only = read_only
        self.durable = durable
        self._close_files()

    with_value = classmethod(with_value)

    @classmethod
    def for_mode(cls, mode: str | None, *args: Any, **options: Any) -> Self:
        """The store for a mode of `zarrcy.open`: with ``"r"``, its own flag keeps it from touching the directory."""
        if mode == "r":
            options["read_only"] = True
        return cls(*args, **options)

    def _close_files(self) -> None:
        path = self.path
        encoded = path.encode() if path.isascii() else os.fsencode(path)
        url = "" if type(self) is FilesystemStore else self.url
        self._files = Files(Directory(encoded, url, durable=self.durable))

    @property
    def url(self) -> str:
        """The ``file://`` URL of the directory."""
        return file_url(self.path)

    def options(self) -> dict[str, Any]:
        """The arguments that open this directory again; those with their default value are left out."""
        flags = {"read_only": self.read_only, "durable": self.durable}
        return {"path": self.path} | {name: True for name, value in flags.items() if value}

    @property
    def supports_cas(self) -> bool:  # type: ignore[override]
        """Whether the file system has locks. Taken to be true until the directory can be written to."""
        if not self.read_only:
            try:
                return self._files.directory.probe()
            except StoreError:
                pass
        return self._files.directory.locks

    def native_reader(self) -> Directory | None:
        """The directory, for the compiled reader and writer; ``None`` in a subclass: its `get` may be another."""
        return self._files.directory if type(self) is FilesystemStore else None

    def prepare(self) -> None:
        """Make the directory if it is missing, and see that it can be written to.

        Raises
        ------
        StoreError
            The directory that it lies in is missing, or something that is no directory has the name.
        PermissionDeniedError
            The process may not write there.
        """
        self.check_writable()
        directory = self._files.directory
        try:
            directory.probe()
        except StoreError as error:
            if error.code != "enoent":
                raise
            self._make_root()
            directory.probe()

    def _make_root(self) -> None:
        parent = Path(self.path).parent
        try:
            Path(self.path).mkdir()
            if self.durable:
                folder = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        except FileExistsError:
            pass  # another writer was faster, or the next call says what is wrong with it
        except OSError as error:
            raise store_error(error.errno or 0, self.url, None, path=str(parent)) from error

    # ---- one key

    _name = staticmethod(path_of)  # the path of a key; a subclass may ask first

    def _writable_name(self, key: str) -> bytes:
        self.check_writable()
        name = self._name(key)
        if name is None:
            raise ValueError(f"key {key!r}: expected one that is not the name of a temporary file of this store")
        return name

    def get(self, key: str, part: slice | None = None) -> bytes | None:
        """The value of a key, or a part of it. See `zarrcy.stores.Store.get`.

        Raises
        ------
        StoreError
            The key names a directory (``code="eisdir"``), lies below a file (``"enotdir"``), a link leads
            out of the store, or reading failed.
        """
        name = self._name(key)
        return None if name is None else self._files.read(name, part)

    def size(self, key: str) -> int | None:
        """The length of a value in bytes; ``None`` when there is no such key. Raises what `get` raises."""
        name = self._name(key)
        return None if name is None else self._files.size(name)

    def set(self, key: str, value: Buffer) -> None:
        """Store a value, replacing an older one and keeping its permission bits.

        Raises
        ------
        StoreError
            It could not be written; the old value is still there.
        ConflictError
            Another writer held the lock of the key for 120 seconds.
        ValueError
            The key is the name of a temporary file of this store.
        """
        name = self._writable_name(key)
        try:
            self._replace(name, value)
        except StoreError as error:
            if error.code == "enoent":
                self.prepare()
            elif error.code == "eisdir":
                self._remove_empty(key)
            else:
                self._files.prune(name)
                raise
            self._replace(name, value)

    def _replace(self, name: bytes, value: Buffer) -> None:
        self._hold(name).replace(value)

    def _hold(self, name: bytes) -> HeldKey:
        held = self._files.hold(name, alone=self._holds(name))
        assert held is not None  # only with parents=False
        return held

    def delete(self, key: str) -> None:
        """Delete a key, and the directories that are empty then. An absent key is fine."""
        name = self._writable_name(key)
        self._delete(name)
        self._files.prune(name)

    def _delete(self, name: bytes) -> None:
        held = self._files.hold(name, alone=self._holds(name), parents=False)
        if held is not None:
            held.delete()

    # ---- compare and swap, locks

    def get_with_version(
        self, key: str, part: slice | None = None, *, if_version: Version | None = None
    ) -> tuple[bytes | None, Version | None]:
        """A value and its version, a digest of the whole value: all of it is read, whatever the part."""
        value = self.get(key)
        version = _digest(value)
        if if_version is not None and version != if_version:
            raise self._conflict(key)
        if value is None or part is None:
            return value, version
        start, stop, step = part.indices(len(value))
        if step != 1:
            raise ValueError(f"part {part!r}: expected step 1, got {step}")
        return value[start:stop], version

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        """Store a value if the key still has that version. See `zarrcy.stores.Store.set_if`."""
        name = self._writable_name(key)
        if not self.supports_cas:
            raise self._no_cas()
        new = _digest(value)
        assert new is not None
        self.prepare()
        with self._hold(name) as held:
            current = _digest(self._files.read(name))
            if current == version:
                held.replace(value)
                return new
        self._files.prune(name)
        raise self._conflict(key)

    def lock(self, key: str) -> AbstractContextManager[None] | None:
        """A context in which no other thread or process writes or deletes that key; the thread itself may.

        ``None`` where the file system has no locks.
        """
        name = self._writable_name(key)
        return self._locked(name) if self.supports_cas else None

    @contextmanager
    def _locked(self, name: bytes) -> Iterator[None]:
        if self._holds(name):
            yield
            return
        self.prepare()
        held = self._hold(name)
        _held.table[self.path, name] = held
        try:
            yield
        finally:
            del _held.table[self.path, name]
            if held.process == os.getpid():
                held.release()
                self._files.prune(name)

    def _holds(self, name: bytes) -> bool:
        held = _held.table.get((self.path, name))
        # A lock that a forked child inherits is its parent's.
        return held is not None and held.process == os.getpid()

    # ---- listing

    def list_prefix(self, prefix: str = "") -> Iterator[str]:
        """Every key that starts with `prefix`, in any order. Links are followed, but not from below another link."""
        folder = check_prefix(prefix)[:-1]
        return iter(()) if has_temporary(folder) else self._keys(folder, links=True)

    def _keys(self, folder: str, *, links: bool) -> Iterator[str]:
        below = folder + "/" if folder else ""
        files, folders, linked = self._scan(folder)
        for name in files:
            yield below + name
        for name in folders:
            yield from self._keys(below + name, links=links)
        for name in linked if links else ():
            kind = self._follow(below + name)
            if kind == "file":
                yield below + name
            elif kind == "folder":
                yield from self._keys(below + name, links=False)

    def list_dir(self, prefix: str = "") -> Iterator[str]:
        """What lies directly below `prefix`. Directories without a key in them are not listed."""
        check_prefix(prefix)
        return iter(()) if has_temporary(prefix) else self._children(prefix)

    def _children(self, below: str) -> Iterator[str]:
        files, folders, links = self._scan(below[:-1])
        yield from files
        for name in folders:
            if self._has_key(below + name):
                yield name + "/"
        for name in links:
            kind = self._follow(below + name)
            if kind == "file":
                yield name
            elif kind == "folder" and self._has_key(below + name):
                yield name + "/"

    def _has_key(self, folder: str) -> bool:
        return next(self._keys(folder, links=True), None) is not None

    def _scan(self, folder: str) -> tuple[list[str], list[str], list[str]]:
        """The names of the values, directories and links in a directory; none where there is no directory."""
        files: list[str] = []
        folders: list[str] = []
        links: list[str] = []
        with self._opened(folder) as descriptor:
            if descriptor is None:
                return files, folders, links
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    name = entry.name
                    if not name.isprintable() or "\\" in name or is_temporary(name):
                        continue
                    if entry.is_symlink():
                        links.append(name)
                    elif entry.is_dir(follow_symlinks=False):
                        folders.append(name)
                    elif entry.is_file(follow_symlinks=False):
                        files.append(name)
        return files, folders, links

    @contextmanager
    def _opened(self, folder: str) -> Iterator[int | None]:
        """A descriptor of a directory, ``None`` where there is none; what fails in the context is a `StoreError`."""
        descriptor = self._files.open_folder(folder.encode())
        try:
            yield descriptor
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise store_error(error.errno or 0, self.url, folder, path=self.path) from error
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _follow(self, key: str) -> str | None:
        """What a link leads to: a ``"file"`` or a ``"folder"`` in the store; ``None`` for nothing, or out of it."""
        try:
            descriptor = self._files.open_folder(key.encode())
            if descriptor is not None:
                os.close(descriptor)
                return "folder"
            return None if self._files.size(key.encode()) is None else "file"
        except StoreError as error:
            if error.code in ("exdev", "eloop"):
                return None
            raise

    # ---- tidying up

    def delete_prefix(self, prefix: str) -> None:
        """Delete every key that starts with `prefix`, and the directories. Links are removed, not what they lead to."""
        self.check_writable()
        folder = check_prefix(prefix)[:-1]
        self._delete_below(folder)
        self._remove_empty(folder)

    def _delete_below(self, folder: str) -> None:
        below = folder + "/" if folder else ""
        files, folders, links = self._scan(folder)
        for name in files + links:
            self._delete((below + name).encode())
        for name in folders:
            self._delete_below(below + name)

    def _remove_empty(self, folder: str) -> None:
        for _ in self._collect(folder):
            pass
        self._files.prune(f"{folder}/".encode())

    def repair(self) -> list[str]:
        """Remove the temporary files that no living writer holds, and the empty directories; a line for each."""
        self.check_writable()
        return list(self._collect(""))

    def _collect(self, folder: str) -> Iterator[str]:
        below = folder + "/" if folder else ""
        with self._opened(folder) as descriptor:
            if descriptor is None:
                return
            folders: list[str] = []
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    elif is_temporary(entry.name) and self._collect_file(descriptor, entry):
                        yield f"removed the unfinished write {below}{entry.name}"
            for name in folders:
                yield from self._collect(below + name)
                try:
                    os.rmdir(name, dir_fd=descriptor)
                except OSError:
                    continue  # it holds something
                yield f"removed the empty directory {below}{name}"

    def _collect_file(self, descriptor: int, entry: os.DirEntry[str]) -> bool:
        removed = self._files.collect(descriptor, os.fsencode(entry.name))
        if removed is None:
            import time

            if time.time() - entry.stat(follow_symlinks=False).st_mtime < ABANDONED_AFTER_SECONDS:
                return False
            os.unlink(entry.name, dir_fd=descriptor)
            return True
        return removed

    def sync(self) -> None:
        """Write out what the file system still holds in memory (all of it: it cannot tell this store's files apart)."""
        self._files.sync()

    def close(self) -> None:
        """Close the directory. It is opened again when the store is used again."""
        self._close_files()


def _absolute(path: str | os.PathLike[str]) -> str:
    if isinstance(path, str) and path.startswith("file://"):
        path = unquote(path.removeprefix("file://").removeprefix("localhost"))
    return absolute_path(path, "a directory")


def _digest(value: Buffer | None) -> Version | None:
    if value is None:
        return None
    from hashlib import blake2b

    return blake2b(value, digest_size=16).hexdigest()
