"""`SharedMemoryStore`: a named table in the machine's memory that unrelated processes share; no server, no disk.

The values are files on the memory mount, as `FilesystemStore` keeps them: atomic replacement, locks, compare-and-swap
and the collection of what crashed writers leave are its. What makes it a table, with an owner, an heir and
access modes, is in `zarrcy.stores.shared_memory_tables`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote, unquote

from zarrcy.errors import PermissionDeniedError, StoreError
from zarrcy.kernels.posix import Directory
from zarrcy.kernels.posix_errors import absolute_path
from zarrcy.stores.files import path_of
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.shared_memory_tables import (
    ACCESS,
    HEIR,
    OWNER,
    VALUES,
    Tables,
    forget_removed,
    is_heir,
    is_owner,
)
from zarrcy.stores.store import Buffer, Version

__all__ = ["SharedMemoryStore"]

NAME_NBYTES = 200  # of a table; files end at 255, and some are longer than the name


class SharedMemoryStore(FilesystemStore):
    """Values in a named table in the memory of the machine, for all the processes of a user.

    The process that makes a table, by the first write, is its owner, until it ends. Then the heir is, if there is
    one; a table without a living owner or heir is removed when the next process opens any, or by ``zarrcy repair``.

    Parameters
    ----------
    table_name : str
        The name of the table: printable, without ``"/"``, not beginning with a dot.
    access : {"public", "protected", "private"}, optional
        Of a new table, who may use it: every process of this user; every one, but only the owner writes; only the
        owner. ``"public"`` by default. Of a table that exists it must be what it has, if given.
    heir : bool, default False
        Make this process the heir of the table, which must exist: it becomes the owner when the owner ends.
    read_only : bool, default False
        Refuse to write.
    mount : str, default "/dev/shm"
        The directory of a file system that lies in memory.

    Raises
    ------
    ValueError
        The name, or the access mode, is none.
    ConflictError
        ``heir=True``, and another living process is the heir.
    StoreError
        ``heir=True``, and there is no such table.

    Examples
    --------
    >>> from zarrcy.stores.shared_memory import SharedMemoryStore
    >>> store = SharedMemoryStore("example")
    >>> store.set("c/0", b"abcd")
    >>> SharedMemoryStore("example").get("c/0", slice(1, 3))
    b'bc'
    >>> store.table_info()["n_keys"]
    1
    >>> store.delete_table()
    """

    kind = "Shared memory"
    persistence = "While its owner or heir lives"
    scalability = "Single machine"
    latency = "Lowest"
    use = "Arrays shared by processes, caches, intermediate results"

    schemes = ("shm",)

    def __init__(
        self,
        table_name: str,
        *,
        access: str | None = None,
        heir: bool = False,
        read_only: bool = False,
        mount: str | os.PathLike[str] = "/dev/shm",
    ) -> None:
        _check_name(table_name)
        if access is not None and access not in ACCESS:
            raise ValueError(f"access {access!r}: expected one of {', '.join(ACCESS)}")
        self.table_name = table_name
        self.heir = heir
        self.mount = absolute_path(mount, "a directory")
        self._wanted = access
        self._access: str | None = None  # of the table, once it was opened
        self._tables = Tables(self.mount, self.url)
        self._table = self._tables.path(table_name)
        super().__init__(f"{self._table}/{VALUES}", read_only=read_only)
        if heir:
            self._attach()

    @classmethod
    def from_url(cls, url: str, *, mode: str | None = None, **options: Any) -> SharedMemoryStore:
        """Open ``shm://table``."""
        return cls.for_mode(mode, table_name=unquote(url.partition("://")[2]), **options)

    @property
    def url(self) -> str:
        """The ``shm://`` URL of the table."""
        return "shm://" + quote(self.table_name, safe="")

    def options(self) -> dict[str, Any]:
        """The arguments that open this table again. The process that does is not its heir."""
        options: dict[str, Any] = {"table_name": self.table_name}
        if self.read_only:
            options["read_only"] = True
        if self.mount != "/dev/shm":
            options["mount"] = self.mount
        return options

    @property
    def access(self) -> str:
        """The access mode of the table; of one that does not exist, what it is going to have."""
        return self._access or self._wanted or "public"

    def native_reader(self) -> Directory | None:
        """The directory, for the compiled reader and writer, which ask nobody for access: of a public table alone."""
        if type(self) is not SharedMemoryStore:
            return None
        if self._access is None:
            self._attach(may_be_missing=True)
        if self.access != "public":
            return None
        # Should another process make the table first, it has to be a public one.
        self._wanted = "public"
        return self._files.directory

    # ---- opening

    def _attach(self, *, make: bool = False, may_be_missing: bool = False) -> None:
        """Open the table: collect what is dead, take over what is inherited, make it if asked to."""
        with self._tables.locked(make=make) as is_there:
            exists = False
            if is_there:
                self._tables.forget_the_dead(self.table_name)
                self._tables.collect()
                exists = self._tables.exists(self.table_name)
            if not exists:
                if self._access is not None or not (make or may_be_missing):
                    raise self._missing()
                if not make:
                    return
                self._tables.make(self.table_name, self.access)
            self._check_agreed()
            self._tables.claim(self.table_name)
            if self.heir:
                self._tables.inherit(self.table_name)

    def _check_agreed(self) -> None:
        access = self._tables.agreed(self.table_name)["access"]
        if self._wanted not in (None, access):
            raise StoreError(
                f"expected a {self._wanted} table, got a {access} one",
                store=self.url,
                code="access",
                hint="Leave access= away to open what is there, or choose another name.",
            )
        self._access = access

    def _missing(self) -> StoreError:
        if self._access is not None:
            hint = "Name an heir, which keeps the table alive: SharedMemoryStore(name, heir=True) in its process."
            return StoreError(
                "expected the table that was opened, got none: its owner has ended, or deleted it",
                store=self.url,
                code="table_gone",
                hint=hint,
            )
        hint = "Its owner makes it by the first write, and must be alive, or an heir of it."
        return StoreError("expected a table, got none", store=self.url, code="enoent", hint=hint)

    def prepare(self) -> None:
        """Make the table if it is missing; this process owns it then.

        Raises
        ------
        StoreError
            It was there, and is gone (``code="table_gone"``); there is no memory mount (``"no_shared_memory"``); it
            has another access mode (``"access"``).
        PermissionDeniedError
            The access mode does not let this process write; or the directory of all tables is not this user's alone.
        """
        self._check_may_write()
        if self._access is None or not self._tables.exists(self.table_name):
            self._attach(make=True)
            self._check_may_write()
        super().prepare()

    def _enter(self) -> None:
        """Before any call: the table was opened, and this process may read it."""
        if self._access is None:
            self._attach()
        if self._access == "private" and not self._is_owner():
            raise self._denied("a private table can be opened by its owner alone")

    def _check_may_write(self) -> None:
        super().check_writable()
        if self._access in ("protected", "private") and not self._is_owner():
            raise self._denied(f"a {self._access} table can be written by its owner alone")

    def check_writable(self) -> None:
        """Raise when the store was opened for reading, or the table's access mode forbids this process to write."""
        if self._access is None:
            self._attach(may_be_missing=True)
        self._check_may_write()

    def _is_owner(self) -> bool:
        if not is_owner(self._table) and is_heir(self._table):
            self._attach()
        return is_owner(self._table)

    def _denied(self, what: str) -> PermissionDeniedError:
        with self._tables.locked(make=False):
            owner = self._tables.signature(self._table, OWNER)
        return PermissionDeniedError(
            f"{what}: expected process {owner}, got {os.getpid()}",
            store=self.url,
            code="access",
            hint="A forked child is not the owner. Make the table with access='public' to share it.",
        )

    # ---- the calls of the file system store

    def _name(self, key: str) -> bytes | None:
        name = path_of(key)
        if self._access != "public":
            self._enter()
        return name

    def set(self, key: str, value: Buffer) -> None:
        """Store a value. The first of a table makes it. See `zarrcy.stores.Store.set`."""
        self._make_at_first(key)
        super().set(key, value)

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        """Store a value if the key still has that version. See `zarrcy.stores.Store.set_if`."""
        self._make_at_first(key)
        return super().set_if(key, value, version)

    def lock(self, key: str) -> AbstractContextManager[None] | None:
        """A context in which no other thread or process writes that key. See `zarrcy.stores.Store.lock`."""
        self._make_at_first(key)
        return super().lock(key)

    def _make_at_first(self, key: str) -> None:
        if self._access is None:
            path_of(key)
            self.prepare()

    @property
    def supports_cas(self) -> bool:  # type: ignore[override]
        """True: the memory mount has locks."""
        return True

    def _scan(self, folder: str) -> tuple[list[str], list[str], list[str]]:
        self._enter()
        return super()._scan(folder)

    def _collect(self, folder: str) -> Iterator[str]:
        self._enter()
        return super()._collect(folder)

    def sync(self) -> None:
        """Nothing: memory is as safe as it gets."""

    # ---- the table

    def table_info(self) -> dict[str, Any]:
        """What is known of the table.

        Returns
        -------
        dict
            ``name``, ``access``, ``owner`` and ``heir`` (process numbers, or ``None``), ``is_owner``, ``n_keys``,
            ``nbytes`` (of the values) and ``path``.

        Raises
        ------
        StoreError
            There is no such table.
        """
        self._enter()
        with self._tables.locked(make=False):
            if not self._tables.exists(self.table_name):
                raise self._missing()
            owner, heir = (self._tables.signature(self._table, file) for file in (OWNER, HEIR))
        sizes = [size for key in self.list_prefix() if (size := self.size(key)) is not None]
        return {
            "name": self.table_name,
            "access": self.access,
            "owner": owner,
            "heir": heir,
            "is_owner": self._is_owner(),
            "n_keys": len(sizes),
            "nbytes": sum(sizes),
            "path": self._table,
        }

    def clear(self) -> None:
        """Delete every value; the table stays."""
        self.delete_prefix("")

    def delete_table(self) -> None:
        """Delete the table. An absent one is fine.

        Raises
        ------
        PermissionDeniedError
            The access mode does not let this process write.
        """
        self.check_writable()
        with self._tables.locked(make=False) as is_there:
            if is_there:
                self._tables.remove(self.table_name)
        self._access = None
        self.close()

    def close(self) -> None:
        """Close the directory. The table stays, and this process its owner, until it ends or `delete_table`."""
        super().close()
        forget_removed()

    def repair(self) -> list[str]:
        """Remove the tables without a living owner or heir, and what killed writers left in this one."""
        super().check_writable()
        with self._tables.locked(make=False) as is_there:
            done = self._tables.collect() if is_there else []
            exists = is_there and self._tables.exists(self.table_name)
        return done + super().repair() if exists else done


def _check_name(name: str) -> None:
    if (
        not isinstance(name, str)
        or not name.isprintable()
        or not name
        or name.startswith(".")
        or "/" in name
        or len(name.encode()) > NAME_NBYTES
    ):
        raise ValueError(
            f"table_name {name!r}: expected printable text of at most {NAME_NBYTES} bytes, without '/' and no dot first"
        )
