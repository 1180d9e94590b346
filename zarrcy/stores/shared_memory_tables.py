"""The tables of shared memory: directories on the machine's memory mount, and who keeps them alive.

``/dev/shm/zarrcy-<uid>/<table>/`` holds ``values`` (a directory of the file system store), ``table.json`` (what was
agreed when the table was made) and two files that are only locked: ``owner`` and ``heir``. A process is the owner
for as long as it holds ``flock`` on ``owner``; it holds it until it ends, however it ends. A lock goes with the open
file, which a forked child inherits: the child closes it at once, and is neither owner nor heir.

Tables are made, taken over and collected one at a time, under a lock on the directory above them.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from zarrcy.errors import ConflictError, PermissionDeniedError, StoreError
from zarrcy.kernels.posix_errors import store_error

__all__ = ["ACCESS", "Tables", "forget_removed", "is_heir", "is_owner"]

ACCESS = ("public", "protected", "private")
VALUES, OWNER, HEIR, AGREED = "values", "owner", "heir", "table.json"


class _Held:
    """What this process holds of a table: open, locked files."""

    def __init__(self) -> None:
        self.owner = -1
        self.heir = -1


# By the path of the table.
_held: dict[str, _Held] = {}
_mutex = threading.RLock()  # two threads of a process would both get the lock of a file that both have open


def is_owner(path: str) -> bool:
    """Whether this process owns the table at a path."""
    held = _held.get(path)
    return held is not None and held.owner >= 0


def is_heir(path: str) -> bool:
    """Whether this process inherits the table at a path."""
    held = _held.get(path)
    return held is not None and held.heir >= 0


def forget_removed() -> None:
    """Give back the locks of tables that were removed: by another process, or with the directory above them."""
    with _mutex:
        for path, held in list(_held.items()):
            if any(descriptor >= 0 and os.fstat(descriptor).st_nlink == 0 for descriptor in (held.owner, held.heir)):
                _forget(path)


def _forget(path: str) -> None:
    held = _held.pop(path, None)
    for descriptor in (held.owner, held.heir) if held is not None else ():
        if descriptor >= 0:
            os.close(descriptor)


class Tables:
    """The tables of this user on a memory mount.

    Parameters
    ----------
    mount : str
        The directory of the mount, such as ``/dev/shm``.
    url : str
        The URL of the store, for messages.
    """

    def __init__(self, mount: str, url: str) -> None:
        self.mount = mount
        self.url = url
        self.root = f"{mount}/zarrcy-{os.geteuid()}"

    def path(self, name: str) -> str:
        """The directory of a table."""
        return f"{self.root}/{name}"

    # ---- the directory above the tables

    @contextmanager
    def locked(self, *, make: bool) -> Iterator[bool]:
        """The only one, of all processes, that makes, takes over or collects tables. Gives whether there are any."""
        with _mutex:
            forget_removed()
            if not self._check_root(make):
                yield False
                return
            descriptor = self._open(f"{self.root}/.lock", os.O_RDWR | os.O_CREAT)
            try:
                self._flock(descriptor, fcntl.LOCK_EX)
                yield True
            finally:
                os.close(descriptor)

    def _check_root(self, make: bool) -> bool:
        """Whether the directory is there; it must be this user's alone, and no link."""
        if make:
            self._make_root()
        try:
            status = Path(self.root).lstat()
        except FileNotFoundError:
            self._check_mount()
            return False
        except OSError as error:
            raise self._error(error, self.root) from error
        mine = status.st_uid == os.geteuid() and stat.S_ISDIR(status.st_mode)
        if not mine or status.st_mode & 0o077:
            raise PermissionDeniedError(
                f"expected a directory {self.root!r} that only you may enter, got "
                + ("one with other rights" if mine else "somebody else's, or no directory"),
                store=self.url,
                code="insecure",
                hint=f"Look at it with `ls -ld {self.root}`; remove it, if it is yours.",
            )
        return True

    def _make_root(self) -> None:
        try:
            Path(self.root).mkdir(mode=0o700)
        except FileExistsError:
            pass
        except OSError as error:
            self._check_mount()
            raise self._error(error, self.root) from error

    def _check_mount(self) -> None:
        if not Path(self.mount).is_dir():
            raise StoreError(
                f"expected a directory {self.mount!r} that lies in memory, got none",
                store=self.url,
                code="no_shared_memory",
                hint="Linux has one. Elsewhere make a RAM disk, and give its directory as mount=…",
            )

    # ---- one table

    def exists(self, name: str) -> bool:
        """Whether there is a directory of that table, alive or not."""
        return Path(self.path(name)).is_dir()

    def agreed(self, name: str) -> dict[str, Any]:
        """What was agreed when the table was made: ``access``."""
        path = f"{self.path(name)}/{AGREED}"
        try:
            document = json.loads(Path(path).read_bytes())
            if document["access"] not in ACCESS:
                raise ValueError(document["access"])
        except OSError as error:
            raise self._error(error, path) from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"expected a table in {path!r}, got another document", store=self.url, code="bad_table"
            ) from error
        return dict(document)

    def make(self, name: str, access: str) -> None:
        """Make a table that this process owns. Call it under `locked`."""
        path = self.path(name)
        # Made beside its place: a table that can be seen is whole, and has an owner.
        new = f"{self.root}/.new-{secrets.token_hex(8)}"
        descriptor = -1
        try:
            Path(new).mkdir(mode=0o700)
            Path(f"{new}/{VALUES}").mkdir(mode=0o700)
            Path(f"{new}/{AGREED}").write_text(json.dumps({"access": access}))
            os.close(self._open(f"{new}/{HEIR}", os.O_RDWR | os.O_CREAT))
            descriptor = self._open(f"{new}/{OWNER}", os.O_RDWR | os.O_CREAT)
            self._flock(descriptor, fcntl.LOCK_EX)
            self._sign(descriptor)
            Path(new).rename(path)
        except BaseException as error:
            if descriptor >= 0:
                os.close(descriptor)
            shutil.rmtree(new, ignore_errors=True)
            if isinstance(error, OSError) and not isinstance(error, StoreError):
                raise self._error(error, path) from error
            raise
        _forget(path)
        _held.setdefault(path, _Held()).owner = descriptor

    def claim(self, name: str) -> None:
        """Become the owner of a table whose owner has ended, as its heir. Call it under `locked`."""
        path = self.path(name)
        if is_owner(path) or not is_heir(path):
            return
        descriptor = self._try_lock(f"{path}/{OWNER}")
        if descriptor >= 0:
            held = _held[path]
            held.owner = descriptor
            os.close(held.heir)
            held.heir = -1

    def inherit(self, name: str) -> None:
        """Become the heir of a table. Call it under `locked`.

        Raises
        ------
        ConflictError
            Another living process is its heir.
        """
        path = self.path(name)
        if is_owner(path) or is_heir(path):
            return
        descriptor = self._try_lock(f"{path}/{HEIR}")
        if descriptor < 0:
            raise ConflictError(
                f"expected a table without an heir, got that of process {self.signature(path, HEIR)}",
                store=self.url,
                code="has_heir",
                hint="A table has one heir at a time.",
            )
        _held.setdefault(path, _Held()).heir = descriptor

    def forget_the_dead(self, name: str) -> None:
        """Give back locks of a table that is not there any more, or is another one of that name."""
        path = self.path(name)
        held = _held.get(path)
        if held is None:
            return
        for descriptor, file in ((held.owner, OWNER), (held.heir, HEIR)):
            if descriptor >= 0 and not _is_same(descriptor, f"{path}/{file}"):
                _forget(path)
                return

    def remove(self, name: str) -> None:
        """Remove a table and what this process holds of it. Call it under `locked`."""
        path = self.path(name)
        # Out of the way by one call: nobody sees a part of a table.
        gone = f"{self.root}/.gone-{secrets.token_hex(8)}"
        try:
            Path(path).rename(gone)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._error(error, path) from error
        _forget(path)
        shutil.rmtree(gone, ignore_errors=True)

    def collect(self) -> list[str]:
        """Remove the tables that no living process owns or inherits, and what a killed process left while it made
        or removed one; a line for each. Call it under `locked`."""
        done = []
        for entry in sorted(child.name for child in Path(self.root).iterdir()):
            path = f"{self.root}/{entry}"
            if entry.startswith((".new-", ".gone-")):
                shutil.rmtree(path, ignore_errors=True)
                done.append(f"removed the unfinished table {entry}")
            elif not entry.startswith(".") and Path(path).is_dir() and not self.is_alive(entry):
                self.remove(entry)
                done.append(f"removed the table {entry!r}: no process owns it")
        return done

    def is_alive(self, name: str) -> bool:
        """Whether a living process owns or inherits the table. Call it under `locked`."""
        path = self.path(name)
        if is_owner(path) or is_heir(path):
            return True
        return any(self._is_locked(f"{path}/{file}") for file in (OWNER, HEIR))

    def signature(self, path: str, file: str) -> int | None:
        """The process that holds one of the locks of a table; ``None`` when nobody does."""
        if not self._is_locked(f"{path}/{file}"):
            return None
        with suppress(OSError, ValueError):
            return int(Path(f"{path}/{file}").read_text())
        return None

    # ---- locks

    def _is_locked(self, path: str) -> bool:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._error(error, path) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            raise self._error(error, path) from error
        finally:
            os.close(descriptor)
        return False

    def _try_lock(self, path: str) -> int:
        """The file, open, locked and signed; -1 when another process has the lock."""
        descriptor = self._open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sign(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return -1
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _sign(self, descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)

    def _flock(self, descriptor: int, how: int) -> None:
        try:
            fcntl.flock(descriptor, how)
        except OSError as error:
            raise self._error(error, self.root) from error

    def _open(self, path: str, flags: int) -> int:
        try:
            return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise self._error(error, path) from error

    def _error(self, error: OSError, path: str) -> StoreError:
        return store_error(error.errno or 0, self.url, None, path=path)


def _is_same(descriptor: int, path: str) -> bool:
    mine = os.fstat(descriptor)
    try:
        named = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - compared with the fstat above
    except OSError:
        return False
    return (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino)


def _before_fork() -> None:
    # No thread is making or collecting tables: a child would hold that lock, too, and never give it back.
    _mutex.acquire()


def _after_fork_in_parent() -> None:
    _mutex.release()


def _after_fork_in_child() -> None:
    # Closing does not unlock: the parent has the file open too. But it must not live on in the child.
    global _mutex
    _mutex = threading.RLock()
    for held in _held.values():
        for descriptor in (held.owner, held.heir):
            if descriptor >= 0:
                os.close(descriptor)
    _held.clear()


def _at_exit() -> None:
    """Give the memory of the tables back that nobody inherits."""
    for path in list(_held):
        root, _, name = path.rpartition("/")
        tables = Tables(root.rpartition("/")[0], f"shm://{name}")
        with suppress(OSError), tables.locked(make=False) as is_there:
            _forget(path)
            if is_there and tables.exists(name) and not tables.is_alive(name):
                tables.remove(name)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
