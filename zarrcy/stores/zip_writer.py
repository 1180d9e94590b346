"""A ZIP archive that grows: values and directories appended, by one writer at a time.

An archive only grows: values, then a directory, then more values and a directory that names all that count. What a
killed writer leaves behind the last directory is dead, and the next writer writes over it. The first directory of a
new archive goes into a temporary file, which then takes the archive's name; so an archive under its own name always
has a directory.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from zarrcy.errors import StoreError
from zarrcy.stores.zip_archive import ENCRYPTED, Archive, File, storage_error
from zarrcy.stores.zip_directory import (
    EMPTY_ARCHIVE,
    STORED,
    UTF8_NAME,
    Directory,
    Entry,
    end_records,
    name_bytes,
    pack_directory,
    pack_local_header,
    parse_directory,
    read_directory,
)

__all__ = ["Writer", "open_writer", "repair_archive"]

COPY_NBYTES = 1 << 22


class Writer(Archive):
    """An archive that this process alone may write. Its methods are called under the store's lock.

    Parameters
    ----------
    file : File
        Where values go; locked.
    directory : Directory
        What is in it already; new values go behind its end record.
    path : pathlib.Path
        The archive's own name.
    durable : bool
        Values reach the disk before the directory that names them, and the directory before `flush` returns.
    replaced : File, optional
        The locked file that has the archive's name until the first directory is written; `file` is a temporary one
        till then.
    """

    def __init__(
        self, file: File, directory: Directory, path: Path, *, durable: bool, replaced: File | None = None
    ) -> None:
        super().__init__(file, directory)
        self.path = path
        self.durable = durable
        self.pid = os.getpid()
        self._replaced = replaced
        self._changed = replaced is not None
        self._stop = directory.stop

    def put(self, key: str, value: memoryview, crc: int) -> Entry:
        """Append a value; readers elsewhere see it once `flush` has written a directory."""
        name = key.encode("utf-8")
        entry = Entry(self._stop, len(value), len(value), crc, STORED, UTF8_NAME)
        self._append(name, entry, [value], key)
        is_new = key not in self.entries
        self.entries[key] = entry
        self._n_changes += is_new
        self._changed = True
        return entry

    def _append(self, name: bytes, entry: Entry, pieces: list[bytes | memoryview], key: str) -> None:
        header = pack_local_header(name, entry)
        try:
            self.file.write(entry.offset, [header, *pieces])
        except OSError as error:
            raise storage_error(error, self.url, key) from error
        self._value_offsets[entry.offset] = entry.offset + len(header)
        self._stop = entry.offset + len(header) + entry.stored_nbytes

    def remove(self, key: str) -> None:
        """Leave a key out of the next directory."""
        if self.entries.pop(key, None) is not None:
            self._n_changes += 1
            self._changed = True

    def flush(self) -> None:
        """Write a directory of all that counts, when anything changed."""
        if not self._changed:
            return
        named = [(name_bytes(key, entry), entry) for key, entry in self.named_entries()] + self.others
        directory = pack_directory(named, self._stop)
        stop = self._stop + len(directory)
        try:
            if self.durable:
                os.fsync(self.file.fd)
            self.file.write(self._stop, [directory])
            # Whatever fails from here on, this directory is never written over: it may be the one that counts already.
            self._stop = stop
            # What a failed write or a killed writer left must not lie behind the end record.
            if self.file.nbytes() > stop:
                os.ftruncate(self.file.fd, stop)
            if self.durable:
                os.fsync(self.file.fd)
            if self._replaced is not None:
                self._take_name(self._replaced)
        except OSError as error:
            raise storage_error(error, self.url) from error
        self._changed = False

    def _take_name(self, replaced: File) -> None:
        partial_path(self.path).replace(self.path)
        self._replaced = None
        if self.durable:
            sync_directory(self.path.parent)
        unlock(replaced)

    def finish(self) -> None:
        """Flush, and let another writer in. Nothing in a forked child: the archive is its parent's."""
        if os.getpid() != self.pid:
            return
        self.flush()
        unlock(self.file)

    def compacted(self) -> Writer:
        """A new archive of the entries that count, under the same name; the old file lives on for those who read it."""
        self.flush()
        new = _fresh(self.path, self.url, self.file, durable=self.durable)
        try:
            for key, entry in sorted(self.named_entries(), key=lambda item: item[1].offset):
                new.entries[key] = self._copy(key, entry, new)
            new.flush()
        except BaseException:
            partial_path(self.path).unlink(missing_ok=True)
            raise
        return new

    def _copy(self, key: str, entry: Entry, new: Writer) -> Entry:
        offset = self.value_offset(key, entry)
        copy = entry._replace(offset=new._stop, flags=entry.flags & (UTF8_NAME | ENCRYPTED))
        new._append(name_bytes(key, entry), copy, [], key)
        for start in range(0, entry.stored_nbytes, COPY_NBYTES):
            n = min(COPY_NBYTES, entry.stored_nbytes - start)
            try:
                new.file.write(new._value_offsets[copy.offset] + start, [self.file.read(offset + start, n)])
            except StoreError:
                raise
            except OSError as error:
                raise storage_error(error, self.url, key) from error
        return copy

    def after_fork_in_child(self) -> None:
        """Read through an own descriptor: the inherited one would keep the parent's lock alive."""
        try:
            path = partial_path(self.path) if self._replaced is not None else self.path
            file = File(os.open(path, os.O_RDONLY | os.O_CLOEXEC), self.url)
        except OSError:
            return
        if os.path.samestat(os.fstat(file.fd), os.fstat(self.file.fd)):
            self.file = file
            self._replaced = None


def partial_path(path: Path) -> Path:
    """Where a new archive lies until its first directory is written. Only who has the archive locked touches it."""
    return path.with_name(f".{path.name}.partial")


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unlock(file: File) -> None:
    # Without this a forked child that still has the descriptor would keep the lock.
    fcntl.flock(file.fd, fcntl.LOCK_UN)


def lock(file: File) -> None:
    """Take the writer's lock of an archive.

    Raises
    ------
    StoreError
        Another writer has it.
    """
    try:
        fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreError(
            "expected to be the only writer, got an archive that is open for writing elsewhere",
            store=file.url,
            code="locked",
            hint="Close the other writer first: one at a time can write an archive.",
        ) from error


def open_writer(path: Path, url: str, *, mode: str, durable: bool) -> Writer:
    """Open an archive for writing (`mode` r+, a, w or x), with the lock of its only writer."""
    path = path.resolve()
    try:
        file, is_new = _locked(path, url, mode)
        if is_new or mode == "w" or (mode == "a" and file.nbytes() == 0):
            return _fresh(path, url, file, durable=durable)
        partial_path(path).unlink(missing_ok=True)
    except StoreError:
        raise
    except OSError as error:
        raise storage_error(error, url) from error
    directory = read_directory(file.read, file.nbytes(), url)
    if directory.base:
        raise StoreError(
            f"expected an archive from byte 0 on, got {directory.base} bytes in front of it", store=url, code="prefixed"
        )
    return Writer(file, directory, path, durable=durable)


def _locked(path: Path, url: str, mode: str) -> tuple[File, bool]:
    flags = os.O_RDWR | os.O_CLOEXEC
    while True:
        is_new = False
        try:
            if mode == "r+":
                fd = os.open(path, flags)
            else:
                fd, is_new = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            if mode == "x":
                raise
            fd = os.open(path, flags)
        file = File(fd, url)
        lock(file)
        # Another writer may have given the name to a new file before the lock was free.
        if path.exists() and os.path.samestat(os.fstat(fd), path.stat()):
            if is_new:
                try:
                    file.write(0, [EMPTY_ARCHIVE])
                except OSError:
                    path.unlink()
                    raise
            return file, is_new


def _fresh(path: Path, url: str, replaced: File, *, durable: bool) -> Writer:
    """A writer of a new archive that takes the name of `replaced`, which is locked, with its first directory."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    file = File(os.open(partial_path(path), flags, 0o600), url)
    os.fchmod(file.fd, os.fstat(replaced.fd).st_mode & 0o7777)
    lock(file)
    return Writer(file, Directory({}, [], 0, 0, 0), path, durable=durable, replaced=replaced)


def repair_archive(path: Path, url: str) -> list[str]:
    """Cut an archive behind the last directory that can be read, so that every reader finds it; say what was done."""
    path = path.resolve()
    done = []
    try:
        file, _ = _locked(path, url, "r+")
        if partial_path(path).exists():
            partial_path(path).unlink()
            done.append(f"removed {partial_path(path)}")
        stop = _last_readable(file)
        if stop < file.nbytes():
            done.append(f"cut {file.nbytes() - stop} bytes behind the last directory of {path}")
            os.ftruncate(file.fd, stop)
            os.fsync(file.fd)
    except StoreError:
        raise
    except OSError as error:
        raise storage_error(error, url) from error
    return done


def _last_readable(file: File) -> int:
    nbytes = file.nbytes()
    budget = 4 * nbytes + COPY_NBYTES
    for record in end_records(file.read, nbytes):
        budget -= record.nbytes
        if record.base == 0 and budget > 0:
            try:
                return parse_directory(file.read, record, file.url).stop
            except StoreError:
                continue
    # Bytes in front of an archive are the one case without such a record that can be read.
    return read_directory(file.read, nbytes, file.url).stop
