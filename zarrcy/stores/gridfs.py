"""`GridFSStore`: values in the GridFS of a MongoDB database, under the names that other GridFS clients use.

The steps of a write are in `zarrcy.stores.gridfs_writing`, the documents in `zarrcy.stores.gridfs_bucket`.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from zarrcy.errors import ChecksumError, ConflictError, StoreError
from zarrcy.stores.gridfs_bucket import BATCH_NBYTES, RETRY_BROKEN, Bucket, Current, DamagedError
from zarrcy.stores.gridfs_writing import ANY, Upload, Writer
from zarrcy.stores.mongo_url import URL_VARIABLE, MongoURL
from zarrcy.stores.store import UPDATE_TIMEOUT, Buffer, Store, Version, check_key, check_prefix, resolve_part

__all__ = ["GridFSStore"]

BATCH = 64  # keys in one request
BYTE_BUDGET = 128 << 20  # of the chunks on their way, in all threads
MAX_READS = 1000  # of a value that is replaced again and again


class GridFSStore(Store):
    """Values in a bucket of GridFS, in files that are called ``ARRAY_ID/KEY``.

    Needs ``pip install "zarrcy[mongo]"``. Nothing is connected before the first use.

    Parameters
    ----------
    url : str, optional
        ``mongodb://USER:PASSWORD@HOST/DATABASE?OPTIONS`` or ``mongodb+srv://…``, as MongoDB documents it; every option
        is passed on. By default the environment variable ``ZARRCY_MONGODB_URL``.
    database : str, optional
        The database; by default the one in the URL.
    bucket : str, default "fs"
        The bucket: the part before the dot in ``fs.files``.
    array_id : str
        What stands in front of every key: one or more segments joined by ``"/"``. Stores with different ones share a
        bucket.

    Raises
    ------
    StoreError
        The URL cannot be read (``code="bad_url"``), or names no database (``"no_database"``).
    ValueError
        `array_id` is not such text.

    Notes
    -----
    Secrets are in no pickle, ``repr``, message or `url`. Another process takes the password from the environment
    variable ``ZARRCY_MONGODB_PASSWORD``, or all that is secret from ``ZARRCY_MONGODB_URL``.

    Examples
    --------
    >>> from zarrcy.stores.gridfs import GridFSStore
    >>> store = GridFSStore(url="mongodb://ann:secret@localhost:27017/lab", array_id="experiment_001")
    >>> store.url
    'mongodb://ann@localhost:27017/lab?bucket=fs&array_id=experiment_001'
    """

    concurrency = 16
    batch = 16
    byte_budget = BYTE_BUDGET
    coalesce_gap = 256 * 1024
    supports_cas = True
    schemes = ("mongodb", "mongodb+srv")

    kind = "Database"
    persistence = "Yes"
    scalability = "Distributed"
    latency = "Medium"
    use = "MongoDB infrastructure, large chunks"

    def __init__(
        self, url: str | None = None, *, database: str | None = None, bucket: str = "fs", array_id: str
    ) -> None:
        location = MongoURL(_given_url(url))
        self.database = database or location.database
        self.bucket = bucket
        self.array_id = check_key(array_id)
        location.move_to(self.database)
        self._location = location
        if not self.database or not bucket:
            raise StoreError(
                "expected a database and a bucket, got an empty name",
                store=location.public,
                code="no_database",
                hint="Name the database behind the host, mongodb://HOST/DATABASE, or with database=.",
            )
        self._bucket = Bucket(location, self.database, bucket, self.url)
        self._writer = Writer(self._bucket, array_id)

    @classmethod
    def from_url(cls, url: str, *, mode: str | None = None, **options: Any) -> GridFSStore:
        """The store of a URL, in which ``bucket`` and ``array_id`` are two options more.

        Examples
        --------
        >>> from zarrcy.stores.gridfs import GridFSStore
        >>> GridFSStore.from_url("mongodb://localhost/lab?array_id=experiment_001&replicaSet=rs0").array_id
        'experiment_001'
        """
        location = MongoURL(url)
        own = {name: location.pop(name) for name in ("bucket", "array_id")}
        found = {name: value for name, value in own.items() if value is not None}
        return cls(location.full, **{**found, **options})

    @property
    def url(self) -> str:
        """The URL of the store, without secrets."""
        return self._location.with_options(bucket=self.bucket, array_id=self.array_id)

    def options(self) -> dict[str, Any]:
        """The arguments that open this storage again, without secrets."""
        return {
            "url": self._location.public,
            "database": self.database,
            "bucket": self.bucket,
            "array_id": self.array_id,
        }

    def _name(self, key: str) -> str:
        return f"{self.array_id}/{check_key(key)}"

    # ---- one key

    def get(self, key: str, part: slice | None = None) -> bytes | None:
        """The value of a key, or a part of it. See `zarrcy.stores.Store.get`.

        Raises
        ------
        ChecksumError
            The bytes are not those that were stored.
        PermissionDeniedError, UnavailableError
            The server refused, or did not answer.
        """
        return self._read(key, part)[0]

    def _read(
        self, key: str, part: slice | None, version: Version | None = None, *, primary: bool = False
    ) -> tuple[bytes | None, Current | None]:
        name = self._name(key)
        damaged: list[tuple[Any, str]] = []
        for _ in range(MAX_READS):
            # A secondary may be behind: after a first failure the primary is asked.
            current = self._bucket.find(name, key, primary=primary or bool(damaged))
            if version is not None and (current is None or current.file != version):
                raise self._writer.conflict(key)
            if current is None:
                return None, None
            start, n = (0, current.nbytes) if part is None else resolve_part(part, current.nbytes)
            try:
                return self._bucket.read(current, start, start + n, key), current
            except DamagedError as error:
                # Replaced while it was read, and then there is another file now; or really damaged.
                damaged = [each for each in damaged if each[0] == current.file] + [(current.file, str(error))]
            if len(damaged) >= RETRY_BROKEN:
                raise self._corrupt(key, damaged[-1][1])
        raise self._bucket.unavailable(key)

    def _corrupt(self, key: str, what: str) -> ChecksumError:
        return ChecksumError(
            what,
            store=self.url,
            key=key,
            code="corrupt",
            hint="The stored value is damaged: write it again, from a copy or from its source.",
        )

    def size(self, key: str) -> int | None:
        """The length of a value in bytes; ``None`` when there is no such key."""
        current = self._bucket.find(self._name(key), key)
        return None if current is None else current.nbytes

    def set(self, key: str, value: Buffer) -> None:
        """Store a value. It is on a majority of the replica set when this returns.

        Raises
        ------
        OutcomeUnknownError
            The answer was lost, and what happened could not be found out.
        PermissionDeniedError, UnavailableError
            The server refused, or did not answer; the old value is still there.
        """
        self._name(key)
        self._store([self._writer.prepare(key, value)])

    def _store(self, uploads: list[Upload], version: Any = ANY) -> None:
        writer = self._writer
        writer.upload(uploads)
        if len(uploads) > 1:
            gone = writer.publish_many(uploads)
        else:
            gone = writer.publish(uploads[0], version)
        writer.settle(uploads, gone)

    def delete(self, key: str) -> None:
        """Delete a key. An absent key is fine."""
        name = self._name(key)
        current = self._bucket.find(name, key, primary=True)
        if current is not None:
            self._delete({name: current})

    def _delete(self, found: dict[str, Current]) -> None:
        """Delete values, and the older files of other clients that would show then."""
        foreign = self._bucket.find_foreign([name for name, each in found.items() if each.checksums is not None], None)
        for name, each in foreign.items():
            found[name].previous.extend([each.file, *each.previous])
        self._writer.delete(found)

    # ---- compare and swap

    def get_with_version(
        self, key: str, part: slice | None = None, *, if_version: Version | None = None
    ) -> tuple[bytes | None, Version | None]:
        """A value, or a part of it, and its version: the ``_id`` of its file. It is read from the primary."""
        value, current = self._read(key, part, if_version, primary=True)
        return value, None if current is None else current.file

    def set_if(self, key: str, value: Buffer, version: Version | None) -> Version:
        """Store a value if the key still has that version. See `zarrcy.stores.Store.set_if`.

        Raises
        ------
        ConflictError
            The key has another version; nothing was written.
        OutcomeUnknownError
            The answer was lost, and what happened could not be found out.
        """
        name = self._name(key)
        upload = self._writer.prepare(key, value)
        current = self._bucket.find(name, key, primary=True)
        if version != (None if current is None else current.file):
            raise self._writer.conflict(key)
        return self._swap(upload, current)

    def _swap(self, upload: Upload, current: Current | None) -> Version:
        """Store a value if `current` still is; nothing is left of it otherwise."""
        writer = self._writer
        # A file of another client has no document in ``current``: it is created, and must be absent until then.
        foreign = current is not None and current.checksums is None
        writer.upload([upload])
        try:
            gone = writer.publish(upload, None if current is None or foreign else current.file)
        except ConflictError:
            writer.discard(upload)
            raise
        if current is not None and foreign:
            gone = [current.file, *current.previous]
        writer.settle([upload], gone)
        return upload.current.file  # type: ignore[no-any-return]

    def update(self, key: str, change: Callable[[Buffer | None], Buffer]) -> None:
        """Replace a value by what `change` makes of it; no update is lost. See `zarrcy.stores.Store.update`.

        An attempt that loses has uploaded for nothing: threads take turns, and processes wait longer each time.
        """
        deadline = time.monotonic() + UPDATE_TIMEOUT
        with self._bucket.shared.turns.turn(f"{self.bucket}/{self._name(key)}"):
            for attempt in itertools.count():
                value, current = self._read(key, None, primary=True)
                try:
                    self._swap(self._writer.prepare(key, change(value)), current)
                    return
                except ConflictError:
                    if time.monotonic() > deadline:
                        raise
                time.sleep(random.uniform(0, min(0.02 * 2**attempt, 0.5)))

    # ---- many keys

    def get_many(self, requests: Iterable[tuple[str, slice | None]]) -> Iterator[tuple[int, Buffer | None]]:
        """Several values: two requests for up to 64 of them, as long as they are small."""
        numbered = enumerate(requests)
        while batch := list(itertools.islice(numbered, BATCH)):
            names = {self._name(key): key for _, (key, _) in batch}
            found = self._bucket.find_many(names.items())
            group: list[tuple[int, str, slice | None, Current, int, int]] = []
            nbytes = 0
            for i, (key, part) in batch:
                current = found.get(self._name(key))
                if current is None:
                    yield i, None
                    continue
                start, n = (0, current.nbytes) if part is None else resolve_part(part, current.nbytes)
                if group and nbytes + n > BATCH_NBYTES:
                    yield from self._read_group(group)
                    group, nbytes = [], 0
                group.append((i, key, part, current, start, start + n))
                nbytes += n
            yield from self._read_group(group)

    def _read_group(
        self, group: list[tuple[int, str, slice | None, Current, int, int]]
    ) -> Iterator[tuple[int, Buffer | None]]:
        wanted = []
        n_chunks = nbytes = 0
        for _, _, _, current, start, stop in group:
            if start < stop:
                first, end = current.chunks_of(start, stop)
                wanted.append({"files_id": current.file, "n": {"$gte": first, "$lt": end}})
                n_chunks += end - first
                nbytes += stop - start
        chunks = self._bucket.chunks({"$or": wanted}, None, n_chunks, nbytes) if wanted else {}
        for i, key, part, current, start, stop in group:
            try:
                yield i, current.assemble(chunks[current.file], start, stop) if start < stop else b""
            except DamagedError:
                yield i, self.get(key, part)

    def set_many(self, items: Iterable[tuple[str, Buffer]]) -> None:
        """Store several values, six requests for up to 64 small ones. Each is atomic; all together are not."""
        uploads: dict[str, Upload] = {}
        nbytes = 0
        for key, value in items:
            name = self._name(key)
            upload = self._writer.prepare(key, value)
            if uploads and (name in uploads or len(uploads) == BATCH or nbytes + upload.current.nbytes > BATCH_NBYTES):
                self._store(list(uploads.values()))
                uploads, nbytes = {}, 0
            uploads[name] = upload
            nbytes += upload.current.nbytes
        if uploads:
            self._store(list(uploads.values()))

    def delete_prefix(self, prefix: str) -> None:
        """Delete every key that starts with `prefix`, in batches."""
        names = (self._name(key) for key in self.list_prefix(prefix))
        while batch := list(itertools.islice(names, 4 * BATCH)):
            keys = {name: name.removeprefix(f"{self.array_id}/") for name in batch}
            found = self._bucket.find_many(keys.items(), primary=True)
            if found:
                self._delete(found)

    # ---- listing

    def list_prefix(self, prefix: str = "") -> Iterator[str]:
        """Every key that starts with `prefix`, sorted."""
        return self._keys(f"{self.array_id}/{check_prefix(prefix)}", None)

    def _keys(self, low: str, start: str | None) -> Iterator[str]:
        """The keys whose names begin with `low`, from the name `start` on."""
        skip = len(self.array_id) + 1
        high = low[:-1] + "0"  # the character after the slash
        ours = self._names("current", "_id", {}, start or low, high)
        foreign = self._names("files", "filename", {"metadata.array_id": None}, start or low, high)
        for name, _ in itertools.groupby(heapq.merge(ours, foreign)):
            key = name[skip:]
            if _is_key(key):
                yield key

    def _names(self, collection: str, field: str, query: dict[str, Any], low: str, high: str) -> Iterator[str]:
        for page in self._bucket.pages(collection, field, query, low, high, fields=[field]):
            yield from (each[field] for each in page)

    def list_dir(self, prefix: str = "") -> Iterator[str]:
        """What lies directly below `prefix`. What lies further below is skipped, not read."""
        return self._children(f"{self.array_id}/{check_prefix(prefix)}")

    def _children(self, low: str) -> Iterator[str]:
        skip = len(low) - len(self.array_id) - 1
        start: str | None = low
        while start is not None:
            keys, start = self._keys(low, start), None
            for key in keys:
                name, slash, _ = key[skip:].partition("/")
                yield name + slash
                if slash:
                    start = low + name + "0"
                    break

    # ---- the store as a whole

    def repair(self) -> list[str]:
        """Remove what killed writers left an hour ago or earlier, and make the files follow what is current."""
        self.check_writable()
        return list(self._writer.repair())

    def close(self) -> None:
        """Give the connections back. They are opened again when the store is used again."""
        self._bucket.close()


def _given_url(url: str | None) -> str:
    found = os.environ.get(URL_VARIABLE) if url is None else url
    if found is None:
        raise StoreError(
            "url: expected mongodb://HOST/DATABASE, got none",
            code="no_url",
            hint=f"Give url=, or set {URL_VARIABLE}.",
        )
    return found


def _is_key(key: str) -> bool:
    try:
        return bool(check_key(key))
    except ValueError:
        return False  # another client's file, under a name that no store could have written
