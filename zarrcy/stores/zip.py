"""A ZIP archive as a store: one file to hand over, readable by every Zarr library and every unpacker.

Names are keys. Entries whose names are no keys (those of directories, ``"../x"``, absolute names …) are not seen;
they stay in the archive until `ZipStore.compact`.
"""

from __future__ import annotations

import os
import threading
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from zarrcy.errors import ConflictError, ReadOnlyError, StoreError
from zarrcy.kernels.posix_errors import absolute_path
from zarrcy.stores.store import Buffer, Store, Version, check_key, check_prefix
from zarrcy.stores.zip_archive import Archive, after_slash, bytes_view, open_archive, storage_error
from zarrcy.stores.zip_directory import Entry
from zarrcy.stores.zip_writer import Writer, open_writer, repair_archive

__all__ = ["ZipStore"]

MODES = ("r", "r+", "a", "w", "x")


class ZipStore(Store):
    """A ZIP archive. Values are stored without compression of their own: Zarr's codecs have done it.

    Only the end of the file and its central directory are read at open. Writing appends, and `sync` and `close` (the
    end of the program too) write a new directory: readers elsewhere see what had been written by then, and a killed
    writer loses no more than what came after. Replaced and deleted values stay in the file as dead bytes until
    `compact`.

    Parameters
    ----------
    path : str or os.PathLike
        The archive. A relative path is made absolute now.
    mode : {"r", "r+", "a", "w", "x"}, optional
        ``"r"`` reads; ``"r+"`` writes into an archive that exists; ``"a"`` does too, or makes a new one; ``"w"``
        makes a new one, which replaces an older one at the first `sync` or `close`; ``"x"`` makes a new one where
        there is none. By default an archive that exists is read, and one that does not is made by the first write.
    durable : bool, default False
        Flush values to the disk before the directory, and the directory before `sync` returns: what was synced
        survives a loss of power.

    Raises
    ------
    StoreError
        The archive, or the directory it lies in, does not exist, or exists with ``"x"``; another writer has it open;
        it is damaged.

    Notes
    -----
    One writer at a time, for all processes. A pickle, and a forked child, of a store that writes reads what has been
    synced. Reading a whole value compares its CRC-32.

    Examples
    --------
    >>> import tempfile
    >>> from zarrcy.stores.zip import ZipStore
    >>> path = tempfile.mkdtemp() + "/a.zip"
    >>> with ZipStore(path) as store:
    ...     store.set("zarr.json", b"{}")
    >>> bytes(ZipStore(path).get("zarr.json"))
    b'{}'
    """

    supports_cas = True

    kind = "Archive"
    persistence = "Yes"
    scalability = "Single file"
    latency = "Low"
    use = "Distribution, archival, reducing file count"

    def __init__(self, path: str | os.PathLike[str], *, mode: str | None = None, durable: bool = False) -> None:
        if mode is not None and mode not in MODES:
            raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
        self.path = Path(absolute_path(path, "a file"))
        self.durable = durable
        self._lock = threading.RLock()
        self._archive: Archive | None = None
        self._finish: weakref.finalize[..., Any] | None = None
        exists = self._exists()
        if not exists:
            self._check_can_be_made(mode)
        # None is left when the first write makes the archive.
        self._mode = "r" if mode is None and exists else mode
        self.read_only = self._mode == "r"
        if self._mode not in ("r", None):
            self._open_writer()

    def _exists(self) -> bool:
        try:
            self.path.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise storage_error(error, self.url) from error
        return True

    def _check_can_be_made(self, mode: str | None) -> None:
        if mode in ("r", "r+"):
            hint = 'mode="a" makes a new one.'
            raise StoreError("expected an archive, got no such file", store=self.url, code="enoent", hint=hint)
        if not self.path.parent.is_dir():
            raise StoreError(
                f"expected a directory {str(self.path.parent)!r}, got none",
                store=self.url,
                code="enoent",
                hint="Make the directory first.",
            )

    @classmethod
    def from_url(cls, url: str, *, mode: str | None = None, **options: Any) -> ZipStore:
        """Open ``zip://relative.zip`` or ``zip:///absolute.zip``, with a mode of `zarrcy.open`."""
        return cls.for_mode(mode, path=unquote(url.removeprefix("zip://")), **options)

    @classmethod
    def for_mode(cls, mode: str | None, **options: Any) -> ZipStore:
        """Open an archive for what `zarrcy.open` means by `mode`: it is that of a node, not of the whole archive.

        One that does not exist is made by the first write, not now: the node may turn out not to be made.
        """
        if mode not in ("w", "w-", "a"):
            return cls(mode=mode, **options)
        store = cls(**options)
        return cls(mode="a", **options) if store.read_only else store

    @property
    def url(self) -> str:
        return "zip://" + quote(str(self.path))

    def options(self) -> dict[str, Any]:
        """The path, for reading: a second writer could not open it."""
        return {"path": str(self.path), "mode": "r"}

    def __repr__(self) -> str:
        return f"ZipStore({str(self.path)!r}, mode={self._mode!r}{', durable=True' if self.durable else ''})"

    def __reduce__(self) -> tuple[Any, ...]:
        self.sync()
        return super().__reduce__()

    # Opening

    def _reading(self) -> Archive | None:
        """The open archive; ``None`` while there is none yet. After a close it is opened for reading: no lock."""
        archive = self._archive
        if archive is None and self._mode is not None:
            with self._lock:
                if self._archive is None:
                    self._archive = open_archive(self.path, self.url)
                archive = self._archive
        return archive

    def _writing(self) -> Writer:
        """The archive, open for writing. The caller holds the lock."""
        self.check_writable()
        return self._archive if isinstance(self._archive, Writer) else self._open_writer()

    def _open_writer(self) -> Writer:
        writer = open_writer(self.path, self.url, mode=self._mode or "x", durable=self.durable)
        # After a close the same archive is opened again.
        self._mode = "r+"
        self._adopt(writer)
        return writer

    def _adopt(self, writer: Writer) -> None:
        if self._finish is not None:
            self._finish.detach()
        self._archive = writer
        self._finish = weakref.finalize(self, writer.finish)
        _writing_stores.add(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        if isinstance(self._archive, Writer):
            self._mode, self.read_only = "r", True
            self._archive.after_fork_in_child()

    def check_writable(self) -> None:
        if self.read_only and isinstance(self._archive, Writer):
            raise ReadOnlyError(
                "expected the process that opened the archive for writing, got a forked child",
                store=self.url,
                code="read_only",
                hint="Write in the parent, or open the archive in the child alone.",
            )
        if self.read_only:
            raise ReadOnlyError(
                "expected an archive that is open for writing, got a finished one",
                store=self.url,
                code="read_only",
                hint='Open it with mode="a" to append to it.',
            )

    # Reading

    def _find(self, key: str) -> tuple[Archive, Entry] | None:
        archive = self._reading()
        entry = None if archive is None else archive.entry(key)
        if archive is None or entry is None:
            # A key that is there is a good one.
            check_key(key)
            return None
        return archive, entry

    def get(self, key: str, part: slice | None = None) -> Buffer | None:
        found = self._find(key)
        return None if found is None else found[0].get(key, found[1], part)

    def get_with_version(
        self, key: str, part: slice | None = None, *, if_version: Version | None = None
    ) -> tuple[Buffer | None, Version | None]:
        found = self._find(key)
        version = None if found is None else found[0].version(found[1])
        if if_version is not None and version != if_version:
            raise ConflictError("expected the version that was read before, got another", store=self.url, key=key)
        return (None, None) if found is None else (found[0].get(key, found[1], part), version)

    def size(self, key: str) -> int | None:
        found = self._find(key)
        return None if found is None else found[1].nbytes

    def list_prefix(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        archive = self._reading()
        if archive is None:
            return iter(())
        keys, start, stop = archive.below(prefix)
        return iter(keys[start:stop])

    def list_dir(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        archive = self._reading()
        return iter(()) if archive is None else _children(archive, prefix)

    # Writing

    def set(self, key: str, value: Buffer) -> None:
        check_key(key)
        view = bytes_view(value)
        # Outside the lock: it is the longest part for a large value, and runs without the GIL.
        crc = zlib.crc32(view)
        with self._lock:
            self._writing().put(key, view, crc)

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        check_key(key)
        view = bytes_view(value)
        crc = zlib.crc32(view)
        with self._lock:
            archive = self._writing()
            entry = archive.entry(key)
            if version != (None if entry is None else archive.version(entry)):
                expected = "an absent key" if version is None else "the version that was read before"
                raise ConflictError(f"expected {expected}, got another", store=self.url, key=key)
            return archive.version(archive.put(key, view, crc))

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self.check_writable()
            if self._mode is not None:
                self._writing().remove(key)

    # The archive as a whole

    def sync(self) -> None:
        """Write a directory of all that was written, so that readers elsewhere and after a crash see it."""
        with self._lock:
            if isinstance(self._archive, Writer) and not self.read_only:
                self._archive.flush()

    def close(self) -> None:
        """`sync`, and let another writer in."""
        with self._lock:
            if self._finish is not None and not self.read_only:
                assert isinstance(self._archive, Writer)
                self._archive.finish()
                self._finish.detach()
                self._finish = None
                _writing_stores.discard(self)
            self._archive = None

    def compact(self) -> int:
        """Rewrite the archive without dead bytes: replaced and deleted values, old directories, entries that are no
        keys.

        The new file takes the archive's name when it is whole. Who reads the archive goes on with the old file.

        Returns
        -------
        int
            Bytes saved.

        Raises
        ------
        ReadOnlyError
            The store was opened for reading.
        """
        with self._lock:
            old = self._writing()
            old.flush()
            nbytes = old.file.nbytes()
            new = old.compacted()
            self._adopt(new)
            return nbytes - new.file.nbytes()

    def repair(self) -> list[str]:
        """Cut off what a killed writer left behind the last directory, so that other readers open the archive too.

        It works for a store that reads as well, also where the last directory is damaged: then the one before it
        counts.
        """
        with self._lock:
            if isinstance(self._archive, Writer) or not self._exists():
                return []
            self._archive = None
            return repair_archive(self.path, self.url)


def _children(archive: Archive, prefix: str) -> Iterator[str]:
    from bisect import bisect_left

    keys, i, stop = archive.below(prefix)
    while i < stop:
        name, slash, _ = keys[i][len(prefix) :].partition("/")
        yield name + slash
        # Everything below a shared segment is skipped in one step.
        i = bisect_left(keys, after_slash(prefix + name + slash), i, stop) if slash else i + 1


_writing_stores: weakref.WeakSet[ZipStore] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for store in list(_writing_stores):
        store._after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
