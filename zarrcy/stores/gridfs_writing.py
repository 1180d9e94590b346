"""How `GridFSStore` writes: upload, make current, clear up; and what a killed writer left.

A value is written in three steps, each of which may be the last one of a process that is killed:

1. a file document under an unfinished name, and the chunks;
2. the document of the key in ``current`` is changed to the new file, by one atomic operation: now it is stored;
3. the new file gets its name, the file before it and its chunks are removed.

A file that never became current is removed after `ABANDONED_AFTER`, by the next process that writes to the array or by
`repair`. What step 3 left is removed by the next writer of the key, which finds it in ``previous``, or by `repair`.
"""

from __future__ import annotations

import itertools
import re
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from zarrcy.errors import ConflictError, OutcomeUnknownError, UnavailableError
from zarrcy.kernels.checksum import crc32c_of, crc32c_of_chunks
from zarrcy.stores.gridfs_bucket import (
    BATCH_NBYTES,
    CHUNK_NBYTES,
    RETRY_SECONDS,
    UNFINISHED,
    Bucket,
    Current,
    Document,
    pause,
)
from zarrcy.stores.gridfs_errors import is_lost

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

__all__ = ["ANY", "Upload", "Writer", "chunk_index_of"]

# An upload that has not gone on for so long is taken for a killed writer's. One that is alive says so in between.
ABANDONED_AFTER = timedelta(hours=1)
SIGN_OF_LIFE_SECONDS = 60.0

# The files before the current one that its document names: a writer that was killed, or whose answer was lost, finds
# itself among them.
N_PREVIOUS = 8

ANY = object()  # a version: whatever is current

_CHUNK_KEY = re.compile(r"(?:^|/)c((?:[/.]\d+)+)$|(?:^|/)(\d+(?:([./])\d+(?:\3\d+)*)?)$")


def chunk_index_of(key: str) -> list[int] | None:
    """The index of the chunk that a key seems to hold, for queries.

    Examples
    --------
    >>> from zarrcy.stores.gridfs_writing import chunk_index_of
    >>> chunk_index_of("temperature/c/0/12"), chunk_index_of("0.12"), chunk_index_of("zarr.json")
    ([0, 12], [0, 12], None)
    """
    match = _CHUNK_KEY.search(key)
    return None if match is None else [int(digits) for digits in re.findall(r"\d+", match[1] or match[2])]


class Upload(NamedTuple):
    """A value on its way: its key, its full name, and what its document is going to say."""

    key: str
    name: str
    current: Current
    view: memoryview
    crc32c: int

    def file_document(self, array_id: str) -> Document:
        current = self.current
        return {
            "_id": current.file,
            "filename": UNFINISHED + self.name,
            "length": current.nbytes,
            "chunkSize": current.chunk_nbytes,
            "uploadDate": datetime.now(UTC),
            "metadata": {
                "array_id": array_id,
                "key": self.key,
                "chunk_index": chunk_index_of(self.key),
                "crc32c": self.crc32c,
            },
        }

    def chunk_documents(self) -> Iterator[Document]:
        from bson import ObjectId

        for n, start in enumerate(range(0, len(self.view), CHUNK_NBYTES)):
            data = bytes(self.view[start : start + CHUNK_NBYTES])
            yield {"_id": ObjectId(), "files_id": self.current.file, "n": n, "data": data}


class Writer:
    """Writes the values of one array or hierarchy into a bucket.

    Parameters
    ----------
    bucket : Bucket
        Where.
    array_id : str
        What stands in front of each key.
    """

    def __init__(self, bucket: Bucket, array_id: str) -> None:
        self.bucket = bucket
        self.array_id = array_id

    # ---- 1. upload

    def prepare(self, key: str, value: Any) -> Upload:
        """A value with the id of its file and its checksums; it is not stored yet."""
        from bson import ObjectId

        view = memoryview(value)
        if view.format != "B" or view.ndim != 1 or not view.c_contiguous:
            view = memoryview(view.tobytes())
        checksums, crc = crc32c_of_chunks(view, CHUNK_NBYTES)
        stored = struct.pack(f"<{len(checksums)}I", *checksums)
        current = Current(ObjectId(), len(view), CHUNK_NBYTES, stored, [])
        return Upload(key, f"{self.array_id}/{key}", current, view, crc)

    def upload(self, uploads: list[Upload]) -> None:
        """Store the files under their unfinished names, and all chunks."""
        self.prepare_bucket()
        key = uploads[0].key
        documents = [each.file_document(self.array_id) for each in uploads]
        # The chunks wait for the majority, which then has the file too. A file without any waits itself: `_find_out`
        # reads what the majority has.
        self._insert("files", documents, key, majority=not any(each.view for each in uploads))
        started = time.time()
        for batch in _batches(itertools.chain.from_iterable(each.chunk_documents() for each in uploads)):
            if time.time() - started > SIGN_OF_LIFE_SECONDS:
                self._give_sign_of_life(uploads)
                started = time.time()
            self._insert("chunks", batch, key)
        if time.time() - started > SIGN_OF_LIFE_SECONDS:
            self._give_sign_of_life(uploads)

    def _insert(self, name: str, documents: list[Document], key: str, *, majority: bool = True) -> None:
        from pymongo.errors import BulkWriteError, DuplicateKeyError

        collection = self.bucket.collection(name, majority=majority)
        attempts = itertools.count()

        def insert() -> None:
            again = next(attempts) > 0
            try:
                if len(documents) == 1:
                    collection.insert_one(documents[0])
                else:
                    collection.insert_many(documents, ordered=False)
            except DuplicateKeyError:
                # The ids are new: what is there is what an attempt has stored whose answer was lost.
                if not again:
                    raise
            except BulkWriteError as error:
                codes = {each["code"] for each in error.details["writeErrors"]}
                if not again or codes != {11000} or error.details["writeConcernErrors"]:
                    raise

        # Nobody sees the file yet: an answer that is lost leaves nothing unknown.
        self.bucket.call(insert, key)

    def _give_sign_of_life(self, uploads: list[Upload]) -> None:
        files = self.bucket.collection("files")
        query = {"_id": {"$in": [each.current.file for each in uploads]}}
        now = {"$set": {"uploadDate": datetime.now(UTC)}}
        if self.bucket.call(lambda: files.update_many(query, now).matched_count) != len(uploads):
            raise UnavailableError(
                "expected the unfinished file, got none: it was taken for that of a killed writer",
                store=self.bucket.url,
                key=uploads[0].key,
                code="abandoned",
                hint="Was the process stopped for long, or is its clock wrong? Write the value again.",
            )

    # ---- 2. make current

    def publish(self, upload: Upload, version: Any = ANY) -> list[Any]:
        """Make a file current if `version` is current now; returns the files that are of no use any more.

        Raises
        ------
        ConflictError
            Another version is current.
        OutcomeUnknownError
            The answer was lost, and nothing says any more what happened.
        """
        # One session: the server refuses an attempt that comes in after a later one.
        with self.bucket.shared.client.start_session() as session:
            return self._publish(upload, version, session)

    def _publish(self, upload: Upload, version: Any, session: ClientSession) -> list[Any]:
        bucket = self.bucket
        deadline = time.monotonic() + RETRY_SECONDS
        lost = False
        for attempt in itertools.count():
            try:
                gone = self._try(upload, version, session)
            except Exception as error:
                failure = error
            else:
                if gone is None:
                    raise self.conflict(upload.key)
                return gone
            lost = lost or is_lost(failure)
            if not bucket.is_worth_repeating(failure, attempt) or time.monotonic() > deadline:
                bucket.fail(failure, upload.key, lost=lost)
            pause(attempt)
            found = self._find_out(upload, version)
            if found is not None:
                return found
        raise AssertionError

    def _try(self, upload: Upload, version: Any, session: ClientSession) -> list[Any] | None:
        """One attempt; ``None`` when another version is current."""
        from pymongo import ReturnDocument
        from pymongo.errors import DuplicateKeyError

        current = self.bucket.collection("current")
        fields = upload.current.document(upload.name)
        if version is None:
            try:
                current.insert_one({"_id": upload.name, **fields, "previous": []}, session=session)
            except DuplicateKeyError:
                return None
            return []
        query = {"_id": upload.name} | ({} if version is ANY else {"file": version})
        before = current.find_one_and_update(
            query,
            [{"$set": {**fields, "previous": _PREVIOUS}}],
            projection={"file": 1, "previous": 1},
            upsert=version is ANY,
            return_document=ReturnDocument.BEFORE,
            session=session,
        )
        if before is None:
            return [] if version is ANY else None
        return [before["file"], *before["previous"]]

    def _find_out(self, upload: Upload, version: Any) -> list[Any] | None:
        """After an answer was lost: what `publish` returns if the file has become current, ``None`` if not yet.

        Raises
        ------
        ConflictError
            It has not, and another version is current.
        OutcomeUnknownError
            It was replaced or deleted meanwhile, or never became current.
        """
        bucket, new = self.bucket, upload.current.file
        found = bucket.find(upload.name, upload.key, primary=True)
        current = None if found is None or found.checksums is None else found
        if current is not None and new in (current.file, *current.previous):
            return current.previous if current.file == new else []
        files = bucket.collection("files", primary=True)
        untouched = {"_id": new, "filename": UNFINISHED + upload.name}
        if bucket.call(lambda: files.find_one(untouched, {"_id": 1}), upload.key) is None:
            raise OutcomeUnknownError(
                "expected an answer to the write, got none, and other writers have been there since",
                store=bucket.url,
                key=upload.key,
                code="outcome_unknown",
                hint="The write may or may not have happened: read the value to know.",
            )
        if version is ANY or version == (None if current is None else current.file):
            return None
        raise self.conflict(upload.key)

    def publish_many(self, uploads: list[Upload]) -> list[Any]:
        """Make files of different keys current, whatever is; returns the files that are of no use any more."""
        from pymongo import UpdateOne

        bucket = self.bucket
        current = bucket.collection("current", primary=True)
        changes = [
            UpdateOne(
                {"_id": each.name},
                [{"$set": {**each.current.document(each.name), "previous": _PREVIOUS}}],
                upsert=True,
            )
            for each in uploads
        ]
        with bucket.shared.client.start_session() as session:
            try:
                current.bulk_write(changes, ordered=False, session=session)
            except Exception as error:
                if not is_lost(error):
                    bucket.fail(error, None)
                return [file for each in uploads for file in self._publish_again(each, session)]
        query = {"_id": {"$in": [each.name for each in uploads]}}
        found = bucket.call(lambda: list(current.find(query, {"previous": 1})))
        return [file for each in found for file in each["previous"]]

    def _publish_again(self, upload: Upload, session: ClientSession) -> list[Any]:
        found = self._find_out(upload, ANY)
        return self._publish(upload, ANY, session) if found is None else found

    def conflict(self, key: str) -> ConflictError:
        return ConflictError(
            "expected the version that was given, got another one",
            store=self.bucket.url,
            key=key,
            code="conflict",
            hint="Read the value again, and decide anew.",
        )

    # ---- 3. clear up

    def settle(self, uploads: list[Upload], gone: list[Any]) -> None:
        """Give files that have become current their names, and remove those before them."""
        from pymongo import DeleteMany, UpdateOne

        files = self.bucket.collection("files", majority=False)
        changes: list[Any] = [
            UpdateOne({"_id": each.current.file}, {"$set": {"filename": each.name}}) for each in uploads
        ]
        if gone:
            changes.append(DeleteMany({"_id": {"$in": gone}}))
        with suppress(UnavailableError):  # the value is stored; the next writer of the key or `repair` does the rest
            self.bucket.call(lambda: files.bulk_write(changes, ordered=False))
            self._remove_chunks(gone)

    def discard(self, upload: Upload) -> None:
        """Remove a file that did not become current."""
        with suppress(UnavailableError):  # it is collected when it has been there for long enough
            self._remove([upload.current.file])

    def _remove(self, files: list[Any], *, majority: bool = False) -> int:
        """Remove chunks, then files: what is left in between can be found by its file. Returns how many files."""
        self._remove_chunks(files, majority=majority)
        collection = self.bucket.collection("files", majority=majority)
        return self.bucket.call(lambda: collection.delete_many({"_id": {"$in": files}}).deleted_count)

    def _remove_chunks(self, files: list[Any], *, majority: bool = False) -> int:
        if not files:
            return 0
        chunks = self.bucket.collection("chunks", majority=majority)
        return self.bucket.call(lambda: chunks.delete_many({"files_id": {"$in": files}}).deleted_count)

    def delete(self, found: dict[str, Current]) -> None:
        """Delete what is current under some names. A value that another writer puts there meanwhile stays."""
        from pymongo import DeleteOne

        bucket = self.bucket
        ids = [file for each in found.values() for file in (each.file, *each.previous)]
        files, current = bucket.collection("files"), bucket.collection("current")
        # Other clients shall not see them from now on; and what they have put there has no other document.
        ours = {"$mergeObjects": ["$metadata", {"array_id": {"$literal": self.array_id}}]}
        name = {"$concat": [{"$literal": f"{UNFINISHED}{self.array_id}/\\deleted/"}, "$filename"]}
        hide = [{"$set": {"metadata": ours, "filename": name}}]
        bucket.call(lambda: files.update_many({"_id": {"$in": ids}}, hide), writes=True)
        changes = [DeleteOne({"_id": name, "file": each.file}) for name, each in found.items()]
        bucket.call(lambda: current.bulk_write(changes, ordered=False), writes=True)
        self._remove(ids)

    # ---- what others left

    def prepare_bucket(self) -> None:
        """Before the first write of a process: the indexes, and what killed writers left long ago."""
        from pymongo import ASCENDING, IndexModel

        prepared = self.bucket.shared.prepared
        mark = (f"{self.bucket.database}.{self.bucket.name}", self.array_id)
        if mark in prepared:
            return
        by_name = IndexModel([("filename", ASCENDING), ("uploadDate", ASCENDING)])
        by_array = IndexModel([("metadata.array_id", ASCENDING), ("filename", ASCENDING)])
        by_number = IndexModel([("files_id", ASCENDING), ("n", ASCENDING)], unique=True)
        files, chunks = self.bucket.collection("files"), self.bucket.collection("chunks")
        self.bucket.call(lambda: files.create_indexes([by_name, by_array]))
        self.bucket.call(lambda: chunks.create_indexes([by_number]))
        list(self.collect_abandoned())
        prepared.add(mark)

    def collect_abandoned(self) -> Iterator[str]:
        """Remove the unfinished files that have been there for long; give those that are current their names."""
        low = f"{UNFINISHED}{self.array_id}/"
        query = {
            "metadata.array_id": self.array_id,
            "uploadDate": {"$lt": datetime.now(UTC) - ABANDONED_AFTER},
        }
        for page in self.bucket.pages("files", "filename", query, low, low[:-1] + "0"):
            yield from self._collect_files(page)

    def _collect_files(self, documents: list[Document]) -> Iterator[str]:
        """Of some files, name those that are current, and remove the others."""
        from pymongo import UpdateOne

        ids = {each["_id"]: each["metadata"].get("key", "") for each in documents}
        current = self.bucket.collection("current", primary=True)
        query = {"_id": {"$in": [f"{self.array_id}/{key}" for key in ids.values()]}}
        names = {each["file"]: each["_id"] for each in self.bucket.call(lambda: list(current.find(query, {"file": 1})))}
        unnamed = [each["_id"] for each in documents if names.get(each["_id"], each["filename"]) != each["filename"]]
        if unnamed:
            files = self.bucket.collection("files")
            changes = [UpdateOne({"_id": each}, {"$set": {"filename": names[each]}}) for each in unnamed]
            self.bucket.call(lambda: files.bulk_write(changes, ordered=False))
            yield from (f"named the current file of {ids[each]}" for each in unnamed)
        useless = [each for each in ids if each not in names]
        if useless:
            self._remove(useless, majority=True)
            yield from (f"removed the unfinished write of {ids[each] or 'a deleted key'}" for each in useless)

    def repair(self) -> Iterator[str]:
        """Collect what killed writers left, and make the files follow what is current."""
        yield from self.collect_abandoned()
        low, high = f"{self.array_id}/", f"{self.array_id}0"
        for page in self.bucket.pages("files", "filename", {"metadata.array_id": self.array_id}, low, high):
            yield from self._collect_files(page)
        for page in self.bucket.pages("current", "_id", {}, low, high):
            yield from self._rebuild(page)

    def _rebuild(self, documents: list[Document]) -> Iterator[str]:
        """Make the file documents that are missing, and remove the chunks of files that were replaced."""
        files = self.bucket.collection("files", primary=True)
        query = {"_id": {"$in": [each["file"] for each in documents]}}
        there = {each["_id"] for each in self.bucket.call(lambda: list(files.find(query, {"_id": 1})))}
        for each in documents:
            if each["file"] in there:
                continue
            key = each["_id"].removeprefix(f"{self.array_id}/")
            current = Current.of_document(each)
            value = self.bucket.read(current, 0, current.nbytes, key)
            upload = Upload(key, each["_id"], current, memoryview(value), crc32c_of(value))
            self._insert("files", [upload.file_document(self.array_id) | {"filename": each["_id"]}], key)
            yield f"made the file of {key} again"
        removed = self._remove_chunks([file for each in documents for file in each["previous"]], majority=True)
        if removed:
            yield f"removed {removed} chunks of values that were replaced"


# In a pipeline of an update: the file that is current, in front of those that were.
_PREVIOUS: Document = {
    "$cond": [
        {"$eq": [{"$type": "$file"}, "missing"]},
        [],
        {"$slice": [{"$concatArrays": [["$file"], "$previous"]}, N_PREVIOUS]},
    ]
}


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Chunk documents in lists that fit a message."""
    batch: list[Document] = []
    nbytes = 0
    for document in documents:
        if batch and nbytes + len(document["data"]) > BATCH_NBYTES:
            yield batch
            batch, nbytes = [], 0
        batch.append(document)
        nbytes += len(document["data"])
    if batch:
        yield batch
