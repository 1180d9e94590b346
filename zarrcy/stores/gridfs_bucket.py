"""A bucket of GridFS as `GridFSStore` uses it: its documents, reading them, and what is tried again.

Three collections: the ``files`` and ``chunks`` of GridFS, and ``current``, where one small document for each key says
which file is its value. Whoever changes that document by one atomic update has replaced the value; the rest is made to
follow: the file gets its name, and the file before it is removed. Until it is current, a file has a name that no key
can have, and other clients of GridFS do not take it for the value.
"""

from __future__ import annotations

import itertools
import os
import random
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from zarrcy.errors import ChecksumError, StoreError, UnavailableError
from zarrcy.kernels.checksum import crc32c_of
from zarrcy.stores.gridfs_errors import broken_answers, is_lost, is_poisoned, is_transient, store_error
from zarrcy.stores.mongo_clients import SharedMongoClient, acquire
from zarrcy.stores.mongo_url import MongoURL

if TYPE_CHECKING:
    from pymongo.collection import Collection
    from pymongo.cursor import Cursor

__all__ = [
    "BATCH_NBYTES",
    "CHUNK_NBYTES",
    "RETRY_BROKEN",
    "RETRY_SECONDS",
    "UNFINISHED",
    "Bucket",
    "Current",
    "DamagedError",
    "Document",
    "pause",
]

T = TypeVar("T")

CHUNK_NBYTES = 255 * 1024  # the default of GridFS

# Of chunks in one answer of the server. What comes at once is received and decoded in the cache of the processor: four
# fifths of the time of the 8 MiB that would come otherwise.
ANSWER_NBYTES = 4 << 20
BATCH_NBYTES = 16 << 20  # of chunks in one message
PAGE = 1000  # names in one answer
RETRY_SECONDS = 120.0
RETRY_BROKEN = 3  # answers that make no sense, before it is an error

# In front of the name of a file that is not current; a backslash is in no key.
UNFINISHED = "\\unfinished/"

Document = dict[str, Any]


class DamagedError(Exception):
    """Chunks of a file are missing, or are not the ones that were written."""


class Current(NamedTuple):
    """What the document of a key says of its value.

    Attributes
    ----------
    file : object
        The ``_id`` of the file.
    nbytes : int
        Its length.
    chunk_nbytes : int
        The length of its chunks; the last may be shorter.
    checksums : bytes or None
        The CRC-32C of every chunk, four bytes each, little-endian; ``None`` for a file that another client wrote.
    previous : list
        The files that it replaced, the last one first.
    """

    file: Any
    nbytes: int
    chunk_nbytes: int
    checksums: bytes | None
    previous: list[Any]

    def document(self, name: str) -> Document:
        """The document, but for its ``previous``."""
        return {
            "file": self.file,
            "length": self.nbytes,
            "chunkSize": self.chunk_nbytes,
            "crc32c": self.checksums,
            "check": self._check(name),
        }

    def _check(self, name: str) -> int:
        head = struct.pack("<QQ", self.nbytes, self.chunk_nbytes)
        return crc32c_of(name.encode() + str(self.file).encode() + head + (self.checksums or b""))

    @classmethod
    def of_document(cls, document: Document) -> Current:
        """Read what `document` wrote; `DamagedError` when it is not what was written."""
        try:
            fields = [document[name] for name in ("file", "length", "chunkSize", "crc32c", "previous")]
            current = cls(*fields)
            intact = current._check(document["_id"]) == document["check"]
        except (KeyError, TypeError, AttributeError, struct.error):
            intact = False
        if not intact:
            raise DamagedError("the document of the key is damaged")
        return current

    def chunks_of(self, start: int, stop: int) -> tuple[int, int]:
        """The numbers of the chunks that hold some bytes: the first, and the one after the last."""
        return start // self.chunk_nbytes, -(-stop // self.chunk_nbytes)

    def assemble(self, chunks: dict[int, bytes], start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop` of the chunks that hold them, verified."""
        first, end = self.chunks_of(start, stop)
        pieces = [self._verified(n, chunks.get(n)) for n in range(first, end)]
        low, high = start - first * self.chunk_nbytes, stop - first * self.chunk_nbytes
        whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return whole if low == 0 and high == len(whole) else whole[low:high]

    def _verified(self, n: int, data: bytes | None) -> bytes:
        if data is None:
            raise DamagedError(f"chunk {n} is missing")
        expected = min(self.chunk_nbytes, self.nbytes - n * self.chunk_nbytes)
        if len(data) != expected:
            raise DamagedError(f"chunk {n}: expected {expected} bytes, got {len(data)}")
        if self.checksums is not None:
            stored = int.from_bytes(self.checksums[4 * n : 4 * n + 4], "little")
            found = crc32c_of(data)
            if found != stored:
                raise DamagedError(f"chunk {n}: expected CRC-32C {stored:08x}, got {found:08x}")
        return data


class Bucket:
    """A bucket, through a client that is connected at first use, and again after a fork or `close`.

    Parameters
    ----------
    location : MongoURL
        The server.
    database, name : str
        The database, and the name of the bucket in it.
    url : str
        The URL of the store, for errors.
    """

    def __init__(self, location: MongoURL, database: str, name: str, url: str) -> None:
        self.location = location
        self.database = database
        self.name = name
        self.url = url
        self._shared: SharedMongoClient | None = None

    # ---- the client

    @property
    def shared(self) -> SharedMongoClient:
        shared = self._shared
        if shared is not None and shared.process == os.getpid():
            if not shared.retired:
                return shared
            shared.release(id(self))
        from pymongo.errors import PyMongoError

        location = self.location.connection()
        try:
            shared = self._shared = acquire(location, id(self))
            return shared
        except (PyMongoError, ValueError, TypeError) as error:
            failure = store_error(error, self.url, None, location.secrets())
        raise failure  # without its cause, which may hold a secret

    def close(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.release(id(self))

    def collection(self, name: str, *, majority: bool = True, primary: bool = False) -> Collection[Document]:
        """One of the collections. What the URL says of reading and writing counts, but for versions."""
        from pymongo import ReadPreference, WriteConcern
        from pymongo.read_concern import ReadConcern

        client = self.shared.client
        options: dict[str, Any] = {}
        if not majority:
            options["write_concern"] = WriteConcern(w=1)
        elif "w" not in client.write_concern.document:
            options["write_concern"] = WriteConcern(**{**client.write_concern.document, "w": "majority"})
        if client.read_concern.level is None:
            options["read_concern"] = ReadConcern("majority")
        if primary:
            options["read_preference"] = ReadPreference.PRIMARY
        return client[self.database].get_collection(f"{self.name}.{name}", **options)

    def call(self, operation: Callable[[], T], key: str | None = None, *, writes: bool = False) -> T:
        """Do what may be done twice; again with jitter, up to a deadline, when the connection fails.

        Raises
        ------
        StoreError
            Or one of its subclasses, for all that pymongo raises; `OutcomeUnknownError` where it `writes`.
        """
        deadline = time.monotonic() + RETRY_SECONDS
        lost = False
        for attempt in itertools.count():
            try:
                return operation()
            except Exception as error:
                failure = error
            again = self.is_worth_repeating(failure, attempt)
            lost = lost or (writes and is_lost(failure))
            if not again or time.monotonic() > deadline:
                self.fail(failure, key, lost=lost)
            pause(attempt)
        raise AssertionError

    @staticmethod
    def is_worth_repeating(error: Exception, attempt: int) -> bool:
        limited = isinstance(error, broken_answers()) and attempt + 1 >= RETRY_BROKEN
        return is_transient(error) and not limited

    def fail(self, error: Exception, key: str | None, *, lost: bool = False) -> NoReturn:
        """Raise a store's error for what pymongo raised; other errors go on."""
        from pymongo.errors import PyMongoError

        if isinstance(error, StoreError) or not isinstance(error, (PyMongoError, *broken_answers())):
            raise error
        if is_poisoned(error):
            self.shared.retire()
        secrets = self.location.connection().secrets()
        failure = store_error(error, self.url, key, secrets, may_have_happened=lost)
        if any(secret in repr(error) for secret in secrets):
            raise failure  # without its cause, which holds a secret
        raise failure from error

    # ---- reading

    def find(self, name: str, key: str, *, primary: bool = False) -> Current | None:
        """What is current under a name: a value of a store, or else the last file that another client put there."""
        return self.find_many([(name, key)], primary=primary).get(name)

    def find_many(self, names: Iterable[tuple[str, str]], *, primary: bool = False) -> dict[str, Current]:
        """What is current under each of some names, which come with their keys."""
        keys = dict(names)
        error = None
        for _ in range(RETRY_BROKEN):
            try:
                return self._find_many(keys, primary)
            except DamagedError as damaged:
                error = damaged
        key = next(iter(keys.values())) if len(keys) == 1 else None
        raise ChecksumError(str(error), store=self.url, key=key, code="corrupt")

    def _find_many(self, keys: dict[str, str], primary: bool) -> dict[str, Current]:
        key = next(iter(keys.values())) if len(keys) == 1 else None
        current = self.collection("current", primary=primary)
        query = {"_id": next(iter(keys)) if len(keys) == 1 else {"$in": list(keys)}}
        found = {}
        for each in self.call(lambda: list(current.find(query)), key):
            known = Current.of_document(each)
            found[each["_id"]] = known
        if set(found) - set(keys):
            raise DamagedError("the answer is one to another question")
        absent = [name for name in keys if name not in found]
        return found | self.find_foreign(absent, key, primary=primary) if absent else found

    def find_foreign(self, names: list[str], key: str | None, *, primary: bool = False) -> dict[str, Current]:
        """The last file of each name among those that other clients of GridFS have put there."""
        files = self.collection("files", primary=primary)
        query = {"metadata.array_id": None, "filename": names[0] if len(names) == 1 else {"$in": names}}
        order = [("filename", 1), ("uploadDate", 1)]
        found: dict[str, Current] = {}
        for each in self.call(lambda: list(files.find(query).sort(order)), key):
            older = found.get(each["filename"])
            previous = [] if older is None else [older.file, *older.previous]
            found[each["filename"]] = Current(each["_id"], each["length"], each["chunkSize"], None, previous)
        return found

    def read(self, current: Current, start: int, stop: int, key: str) -> bytes:
        """The bytes from `start` to `stop` of a file.

        Raises
        ------
        DamagedError
            Chunks are missing, as when the file is being removed, or are not what was written.
        """
        if start >= stop:
            return b""
        first, end = current.chunks_of(start, stop)
        query = {"files_id": current.file, "n": first if end == first + 1 else {"$gte": first, "$lt": end}}
        return current.assemble(self.chunks(query, key, end - first, stop - start)[current.file], start, stop)

    def chunks(self, query: Document, key: str | None, n_chunks: int, nbytes: int) -> _Chunks:
        """The data of the chunks that a query finds, by file and number: about so many, and so many bytes of them."""
        collection = self.collection("chunks")
        # One more, so that there need not be another answer to say that this was all.
        in_answer = min(n_chunks, ANSWER_NBYTES * n_chunks // nbytes) + 1

        def fetch() -> _Chunks:
            found = _Chunks()
            # No projection: it would have the server copy every chunk.
            for each in collection.find(query).batch_size(in_answer):
                found[each["files_id"]][each["n"]] = each["data"]
            return found

        return self.call(fetch, key)

    def pages(
        self, collection: str, field: str, query: Document, low: str, high: str, fields: list[str] | None = None
    ) -> Iterator[list[Document]]:
        """Documents in the order of a field that holds names, from `low` up to but without `high`, in pages.

        No cursor is open between two pages: listings may take long, and survive the loss of a server.
        """
        documents = self.collection(collection)
        bound = "$gte"
        while True:
            found = documents.find(query | {field: {bound: low, "$lt": high}}, fields).sort(field, 1).limit(PAGE)
            page = self.call(partial(_documents_with, field, found))
            if page:
                yield page
            if len(page) < PAGE:
                return
            low, bound = page[-1][field], "$gt"

    def unavailable(self, key: str) -> UnavailableError:
        return UnavailableError(
            "expected the value to keep still for a moment, got another version each time",
            store=self.url,
            key=key,
            code="restless",
            hint="It is replaced all the time: write it less often, or choose smaller chunks.",
        )


def _documents_with(field: str, cursor: Cursor[Document]) -> list[Document]:
    """All that a query finds; a KeyError when one lacks the field that it was found by."""
    page = list(cursor.rewind())
    for each in page:
        each[field]
    return page


class _Chunks(dict[Any, dict[int, bytes]]):
    """Chunks by file and number."""

    def __missing__(self, file: Any) -> dict[int, bytes]:
        return self.setdefault(file, {})


def pause(attempt: int) -> None:
    """Wait before the next attempt: exponential, with full jitter."""
    time.sleep(random.uniform(0, min(0.1 * 2**attempt, 10.0)))
