"""
Make a destination like its source: a folder of this machine or of another store, or a part of a bucket.

Names are compared relative to the two roots, then sizes, then SHA-256. Only what differs is transferred, by the engines
of the batches, which verify every byte. Files that the destination has and the source lacks are deleted only on
request, and last.

An interrupted run leaves complete objects, and perhaps announcements without data. A listing does not show the
difference, so the bytes of an equal object in a bucket are read before they count as stored (``check_storage``).
"""

from __future__ import annotations

import os
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

from airflow_provider_mictlanx.batches.copy import CopyOptions, copy_all
from airflow_provider_mictlanx.batches.delete import DeleteOptions, delete_keys
from airflow_provider_mictlanx.batches.download import download_items, list_bucket_items, prepare_folder
from airflow_provider_mictlanx.batches.export import Store, export_items
from airflow_provider_mictlanx.batches.local_paths import local_paths
from airflow_provider_mictlanx.batches.runner import Batch, BatchResult, Failure, Item, TransferOptions, select_options
from airflow_provider_mictlanx.batches.upload import UploadItem, UploadOptions, upload_all
from airflow_provider_mictlanx.bulks.sources import SourceBall, file_mark, list_sources
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import Threads, run_in_thread
from airflow_provider_mictlanx.client.errors import MictlanXError, ValidationError
from airflow_provider_mictlanx.client.local_io.atomic_file import check_path, has_content
from airflow_provider_mictlanx.client.local_io.fsspec_source import content_fingerprint
from airflow_provider_mictlanx.client.object_ids import check_bucket_id, check_bucket_may_change, is_part_name
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.versions import listed_key, plain_checksum

log = get_logger(__name__)

HASHING_THREADS = 4
"""Number of threads that hash files."""

SCHEME = "mictlanx://"


@dataclass(frozen=True)
class BucketPath:
    """
    A part of a bucket, as ``mictlanx://[conn_id@]bucket[/prefix]``.

    :ivar prefix: a folder: empty, or ending with ``/``
    :ivar conn_id: the connection; empty for the default
    """

    bucket_id: str
    prefix: str = ""
    conn_id: str = ""

    @classmethod
    def parse(cls, uri: str) -> BucketPath:
        """Return the parts of a URI. The prefix is not percent-decoded. Raises ``ValidationError``."""
        place, _, prefix = uri.removeprefix(SCHEME).partition("/")
        conn_id, _, bucket_id = place.rpartition("@")
        if ":" in conn_id:  # not in the message, since it may be a password
            raise ValidationError(f"{SCHEME}[conn_id@]bucket[/prefix] must have a conn_id without ':'")
        try:
            check_bucket_id(bucket_id)
        except ValidationError as error:  # without the part before the @, which may be a token in a router's URI
            raise ValidationError(f"{SCHEME}[conn_id@]bucket[/prefix] must name a bucket: {error}") from error
        return cls(bucket_id, f"{prefix.rstrip('/')}/" if prefix.strip("/") else "", conn_id)

    def __str__(self) -> str:
        return f"{SCHEME}{self.conn_id and f'{self.conn_id}@'}{self.bucket_id}/{self.prefix}"


@dataclass(frozen=True)
class SyncOptions(UploadOptions):
    """
    Options of a sync.

    :ivar delete_extra: delete what the destination has and the source lacks, if no transfer failed
    :ivar dry_run: only compare
    :ivar allow_empty: with ``delete_extra``: accept a source without files, and so delete everything
    :ivar check_storage: read an equal object in a destination bucket before it counts as stored
    """

    delete_extra: bool = False
    dry_run: bool = False
    allow_empty: bool = False
    check_storage: bool = True


@dataclass
class SyncResult:
    """
    The result of a sync.

    :ivar outcome: of the transfer; unchanged objects are ``skipped``. A dry run counts what it would transfer as done
    :ivar transferred: names of what differed, relative to the roots, sorted
    :ivar deleted: names of what was deleted, or in a dry run would be, sorted
    :ivar deleted_size: their bytes
    """

    outcome: BatchResult
    transferred: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    deleted_size: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """
    An object or a file of one side.

    :ivar item: its bucket and key, or only its name; its checksum is empty if the bytes must be read
    :ivar mark: changes with the content
    :ivar content: the arguments of ``AsyncClient.plan``, for a file of a source
    """

    item: Item
    mark: object = None
    content: Mapping[str, Any] = field(default_factory=dict)


class Side(ABC):
    """One side of a sync."""

    @abstractmethod
    async def list_source(self, bucket_id: str, options: SyncOptions) -> dict[str, Entry]:
        """Return what a source has, by relative name. ``bucket_id`` is the destination's, if that is a bucket."""

    @abstractmethod
    async def list_destination(self, options: SyncOptions) -> dict[str, Entry]:
        """Return what a destination has, by relative name; a missing one has nothing."""

    @abstractmethod
    async def is_stored(self, name: str, entry: Entry, checksum: str, options: SyncOptions, threads: Threads) -> bool:
        """Return whether a destination's entry has these bytes."""

    @abstractmethod
    async def delete(
        self, extra: Mapping[str, Entry], options: SyncOptions, log_progress: Callable[[str], None]
    ) -> BatchResult:
        """Delete entries of a destination."""

    async def names_still_there(self, bucket_id: str, options: SyncOptions) -> Collection[str]:
        """Return every name that a source has now."""
        return await self.list_source(bucket_id, options)

    async def find_aliases(self, names: Collection[str], wanted: Collection[str]) -> Collection[str]:
        """Return those names of a destination that are other names of wanted entries."""
        return ()


@dataclass(frozen=True)
class BucketSide(Side):
    """
    A part of a bucket.

    :ivar client: an open client of its storage space
    """

    client: AsyncClient
    path: BucketPath

    def __str__(self) -> str:
        return str(self.path)

    async def list_source(self, bucket_id: str, options: SyncOptions) -> dict[str, Entry]:
        """Return the complete objects of one listing."""
        return await self.list_destination(options)

    async def list_destination(self, options: SyncOptions) -> dict[str, Entry]:
        """Return the complete objects of one listing."""
        items = await list_bucket_items(self.client, self.path.bucket_id, self.path.prefix, timeout=options.timeout)
        prefix = self.path.prefix
        return await run_in_thread(lambda: {item.key.removeprefix(prefix): _entry_of(item) for item in items})

    async def names_still_there(self, bucket_id: str, options: SyncOptions) -> Collection[str]:
        """Return every announced name: an object that is being replaced is incomplete for a while."""
        listing = unwrap(await self.client.get_chunks_by_bucket_id(self.path.bucket_id, options.timeout))
        keys = await run_in_thread(lambda: set(map(listed_key, listing.balls)))
        return {key.removeprefix(self.path.prefix) for key in keys if key.startswith(self.path.prefix)}

    async def is_stored(self, name: str, entry: Entry, checksum: str, options: SyncOptions, threads: Threads) -> bool:
        """Compare the listed checksum, and read the object, since a listing shows announcements, not data."""
        if entry.item.checksum != checksum:
            return False
        if not options.check_storage:
            return True
        found = await self.client.get_metadata(
            entry.item.bucket_id, entry.item.key, options.timeout, check_storage=True, listed=entry.item.listed
        )
        return found.is_ok and plain_checksum(unwrap(found)) == checksum  # the transfer raises any error

    async def delete(
        self, extra: Mapping[str, Entry], options: SyncOptions, log_progress: Callable[[str], None]
    ) -> BatchResult:
        """Delete objects, and confirm each."""
        keys = [entry.item.key for entry in extra.values()]
        deletion = DeleteOptions(timeout=options.timeout)
        return await delete_keys(self.client, self.path.bucket_id, keys, deletion, log_progress)


@dataclass(frozen=True)
class FolderSide(Side):
    """A folder on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    async def list_source(self, bucket_id: str, options: SyncOptions) -> dict[str, Entry]:
        """Return every file; a link that leaves the folder and the like are errors."""

        def check_and_list() -> list[SourceBall]:
            if not self.path.is_dir():
                raise ValidationError(f"source must be a folder, got {str(self.path)!r}")
            return list_sources(str(self.path), bucket_id)

        return _source_entries(await run_in_thread(check_and_list))

    async def list_destination(self, options: SyncOptions) -> dict[str, Entry]:
        """Return the regular files: links are neither replaced nor deleted because of their names."""
        return await run_in_thread(self._walk)

    def _walk(self) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        if not self.path.exists():
            return found

        def give_up(error: OSError) -> None:
            raise ValidationError(f"reading folder {error.filename} failed: {error.strerror}") from error

        for parent, _, files in os.walk(self.path, onerror=give_up):
            for file in files:
                path = Path(parent, file)
                with suppress(FileNotFoundError):  # deleted meanwhile
                    if stat.S_ISREG((status := path.lstat()).st_mode) and not is_part_name(file):
                        name = path.relative_to(self.path).as_posix()
                        found[name] = Entry(Item("", name, status.st_size), file_mark(status))
        return found

    async def is_stored(self, name: str, entry: Entry, checksum: str, options: SyncOptions, threads: Threads) -> bool:
        """Hash the file."""
        return await has_content(self.path / name, entry.item.size, checksum, threads)

    async def find_aliases(self, names: Collection[str], wanted: Collection[str]) -> Collection[str]:
        """Compare inodes: a link to a folder gives its files two names, and so does a folder that ignores case."""

        def find() -> set[str]:
            inodes = set(filter(None, map(self._inode, wanted)))
            return {name for name in names if self._inode(name) in inodes}

        return await run_in_thread(find)

    def _inode(self, name: str) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path / name)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    async def delete(
        self, extra: Mapping[str, Entry], options: SyncOptions, log_progress: Callable[[str], None]
    ) -> BatchResult:
        """Remove files; their folders stay."""
        return await _delete_files(extra, lambda name: (self.path / name).unlink(missing_ok=True), log_progress)


@dataclass(frozen=True)
class StoreSide(Side):
    """
    A folder of another store.

    :ivar path: an ``ObjectStoragePath`` or ``UPath``
    """

    path: Any
    store: Store

    def __str__(self) -> str:
        return self.store.name

    async def list_source(self, bucket_id: str, options: SyncOptions) -> dict[str, Entry]:
        """Return every file, by one listing."""
        return _source_entries(await run_in_thread(lambda: list_sources(self.path, bucket_id)))

    async def list_destination(self, options: SyncOptions) -> dict[str, Entry]:
        """Return every file except temporary ones, by one listing."""
        found = await run_in_thread(self.store.list)
        return {
            name: Entry(Item("", name, info["size"]), content_fingerprint(info))
            for name, info in found.items()
            if not is_part_name(name.rpartition("/")[2])
        }

    async def is_stored(self, name: str, entry: Entry, checksum: str, options: SyncOptions, threads: Threads) -> bool:
        """Read and hash the file: a store has no SHA-256 to ask for."""
        return await threads.run(self.store.hash, name) == checksum

    async def delete(
        self, extra: Mapping[str, Entry], options: SyncOptions, log_progress: Callable[[str], None]
    ) -> BatchResult:
        """Delete files."""
        return await _delete_files(extra, self.store.delete, log_progress)


def _entry_of(item: Item) -> Entry:
    checksum = plain_checksum(item.listed) if item.listed else ""
    listed = Item(item.bucket_id, item.key, item.size, checksum, item.listed)
    return Entry(listed, (checksum, item.listed and item.listed.updated_at))


def _source_entries(balls: list[SourceBall]) -> dict[str, Entry]:
    return {
        ball.key: Entry(Item(ball.bucket_id, ball.key, ball.size), ball.mark, ball.given())
        for ball in balls
        if not is_part_name(ball.key.rpartition("/")[2])
    }


async def _delete_files(
    extra: Mapping[str, Entry], delete: Callable[[str], None], log_progress: Callable[[str], None]
) -> BatchResult:
    threads = Threads(HASHING_THREADS)

    async def delete_one(item: Item) -> bool:
        await threads.run(delete, item.key)
        return True

    try:
        return await Batch(None, log_progress, "deleting").run([entry.item for entry in extra.values()], delete_one)
    finally:
        threads.close()


async def sync(
    source: Side,
    destination: Side,
    options: SyncOptions,
    log_progress: Callable[[str], None] = log.info,
) -> SyncResult:
    """
    Transfer what differs, and with ``delete_extra`` delete what the source lacks; one side must be a bucket.

    Failures of single objects are in the result. Raises ``ValidationError`` for sides that can't be synced, and
    ``UnavailableError`` if a peer does not answer, so a bucket can't be listed; nothing was changed then.
    """
    return await _Sync(source, destination, options, log_progress).run()


@dataclass
class _Sync:
    source: Side
    destination: Side
    options: SyncOptions
    log_progress: Callable[[str], None]

    def __post_init__(self) -> None:
        _check_sides(self.source, self.destination)
        to = self.destination
        self._bucket_id = to.path.bucket_id if isinstance(to, BucketSide) else ""

    async def run(self) -> SyncResult:
        started = time.monotonic()
        wanted, problems = await self._list_source()
        found = await self.destination.list_destination(self.options)
        self._check_separate(wanted, found)
        extra = {name: entry for name, entry in found.items() if name not in wanted and name not in problems}
        differing = await self._compare(wanted, found)
        outcome = await self._transfer({name: wanted[name] for name in differing})
        outcome.skipped += len(wanted) - len(differing)
        outcome.failures = [*problems.values(), *outcome.failures]
        outcome.permanently_failed |= bool(problems) and len(problems) == outcome.failed
        outcome.total = len(wanted) + len(problems)
        result = SyncResult(outcome, differing)
        if self.options.delete_extra and not outcome.failures:
            await self._delete(extra, wanted, result)
        outcome.response_time = round(time.monotonic() - started, 6)
        return result

    async def _list_source(self) -> tuple[dict[str, Entry], dict[str, Failure]]:
        """Return the source's entries by the names of the destination, and those that can't have such a name."""
        entries = await self.source.list_source(self._bucket_id, self.options)
        self._check_not_empty(entries)
        if isinstance(self.destination, BucketSide):
            return entries, {}
        wanted: dict[str, Entry] = {}
        problems: dict[str, Failure] = {}
        for (_, key), place in (await run_in_thread(lambda: local_paths(("", key) for key in entries))).items():
            if isinstance(place, PurePosixPath):
                wanted[str(place)] = entries[key]
            else:
                item = entries[key].item
                problems[key] = Failure(
                    bucket_id=item.bucket_id, key=item.key, code=place.error_code, message=str(place)
                )
        return wanted, problems

    def _check_not_empty(self, names: Collection[str]) -> None:
        if self.options.delete_extra and not names and not self.options.allow_empty:
            raise ValidationError(
                f"source must not be empty with delete_extra, got {self.source}: every file of {self.destination} "
                "would be deleted; set allow_empty=True to accept that"
            )

    def _check_separate(self, wanted: Mapping[str, Entry], found: Mapping[str, Entry]) -> None:
        """Raise ``ValidationError`` if one side contains the other, and two connections lead to the same storage."""
        if not isinstance(self.source, BucketSide) or not isinstance(self.destination, BucketSide):
            return
        if self.source.path.prefix == self.destination.path.prefix or not _overlap(self.source, self.destination):
            return
        announced = {(entry.item.key, entry.mark) for entry in wanted.values() if entry.item.listed}
        if any((entry.item.key, entry.mark) in announced for entry in found.values()):
            raise _nested_sides(self.source, self.destination)

    async def _compare(self, wanted: Mapping[str, Entry], found: Mapping[str, Entry]) -> list[str]:
        """Return the names whose bytes differ, or can't be compared, sorted."""
        differing = [name for name in wanted if name not in found or found[name].item.size != wanted[name].item.size]
        threads, is_stored = Threads(HASHING_THREADS), self.destination.is_stored

        async def compare(item: Item) -> bool:
            name = item.key
            try:
                checksum = await self._hash(wanted[name])
                equal = bool(checksum) and await is_stored(name, found[name], checksum, self.options, threads)
            except (MictlanXError, OSError):
                equal = False  # the transfer raises it
            if not equal:
                differing.append(name)
            return not equal

        items = [Item("", name, wanted[name].item.size) for name in sorted(wanted.keys() - differing)]
        try:
            await Batch(self.options.max_concurrency, self.log_progress, "comparing").run(items, compare)
        finally:
            threads.close()
        return sorted(differing)

    async def _hash(self, entry: Entry) -> str:
        """Return the SHA-256 of a source's entry; empty if it is unknown."""
        if not entry.content:
            return entry.item.checksum
        return unwrap(await self._bucket.client.plan(**entry.content, chunk_size=None)).checksum

    @property
    def _bucket(self) -> BucketSide:
        """The side that is a bucket; the source, if both are."""
        return self.source if isinstance(self.source, BucketSide) else cast(BucketSide, self.destination)

    async def _transfer(self, differing: Mapping[str, Entry]) -> BatchResult:
        items = [entry.item for entry in differing.values()]
        if self.options.dry_run:
            return BatchResult(done=len(items), done_size=sum(item.size for item in items))
        if not items:
            return BatchResult()
        given, source, to = vars(self.options), self.source, self.destination
        shared: dict[str, Any] = {"log_progress": self.log_progress}
        if not isinstance(to, BucketSide):
            source = self._bucket
            options = select_options(TransferOptions, given)
            shared |= {"prefix": source.path.prefix, "replace": True, "options": options}
            if isinstance(to, StoreSide):
                return await export_items(source.client, items, to.store, **shared)
            root, case_insensitive = await prepare_folder(cast(FolderSide, to).path)
            return await download_items(source.client, items, root, case_insensitive=case_insensitive, **shared)
        place = to.path
        if isinstance(source, BucketSide):
            prefix = source.path.prefix
            return await copy_all(
                source.client,
                items,
                place.bucket_id,
                lambda key: place.prefix + key.removeprefix(prefix),
                dest=to.client,
                options=select_options(CopyOptions, given, replace=True),
                **shared,
            )
        uploads = [
            UploadItem(place.bucket_id, place.prefix + name, entry.item.size, content=entry.content)
            for name, entry in differing.items()
        ]
        return await upload_all(to.client, uploads, select_options(UploadOptions, given, replace=True), **shared)

    async def _delete(self, extra: Mapping[str, Entry], wanted: Collection[str], result: SyncResult) -> None:
        """
        Delete what the source lacks, and add it to the result.

        Both sides are listed again: what has changed at the destination since, or has come to the source, is kept.
        """
        if extra:
            names = await self.source.names_still_there(self._bucket_id, self.options)
            self._check_not_empty(names)
            kept = {*names, *await self.destination.find_aliases(extra, wanted)}
            if not isinstance(self.destination, BucketSide):  # there, "/a" and "a" are one file
                places = await run_in_thread(lambda: local_paths(("", name) for name in names))
                kept.update(map(str, places.values()))
            extra = {name: entry for name, entry in extra.items() if name not in kept}
        if extra and not self.options.dry_run:
            found = await self.destination.list_destination(self.options)
            extra = {name: entry for name, entry in extra.items() if name in found and found[name].mark == entry.mark}
            deleted = await self.destination.delete(extra, self.options, self.log_progress)
            result.outcome.failures += deleted.failures
            result.outcome.permanently_failed = deleted.permanently_failed
            failed = {failure.key for failure in deleted.failures}
            extra = {name: entry for name, entry in extra.items() if entry.item.key not in failed}
        result.deleted = sorted(extra)
        result.deleted_size = sum(entry.item.size for entry in extra.values())


def _check_sides(source: Side, destination: Side) -> None:
    """Raise ``ValidationError`` if no side is a bucket, both are the same part of one, or one is a bulk's records."""
    if isinstance(destination, BucketSide):
        check_bucket_may_change(destination.path.bucket_id, allow_reserved_bucket=False)
    if not isinstance(source, BucketSide) and not isinstance(destination, BucketSide):
        raise ValidationError(
            f"source or destination must be {SCHEME}[conn_id@]bucket[/prefix], got {source} and {destination}"
        )
    if isinstance(source, BucketSide) and isinstance(destination, BucketSide):
        same_space = source.client is destination.client or source.client.uri == destination.client.uri
        if same_space and _overlap(source, destination):
            raise _nested_sides(source, destination)


def _overlap(one: BucketSide, other: BucketSide) -> bool:
    """Return whether one side contains the other, if both are in the same storage space."""
    a, b = one.path, other.path
    return a.bucket_id == b.bucket_id and (a.prefix.startswith(b.prefix) or b.prefix.startswith(a.prefix))


def _nested_sides(source: Side, destination: Side) -> ValidationError:
    return ValidationError(f"source and destination must not contain each other, got {source} and {destination}")


def side_of(location: Any, parameter: str = "location") -> BucketPath | FolderSide | StoreSide:
    """
    Return the side that a str, a path or an ``ObjectStoragePath`` names; a bucket still needs its client.

    :param location: a folder, ``mictlanx://[conn_id@]bucket[/prefix]``, or a path of another store
    :param parameter: name of the caller's parameter, for the error
    """
    if isinstance(location, BucketPath):
        return location
    if isinstance(location, str) and location.startswith(SCHEME):
        return BucketPath.parse(location)
    store = Store.at(location)
    if store is None:
        path = getattr(location, "path", location)  # an ``ObjectStoragePath`` on this machine
        if path == "":
            raise ValidationError(f"{parameter} must not be empty; use '.' for the working directory")
        if isinstance(path, str) and "://" in path:
            raise ValidationError(
                f"{parameter} must be a folder or {SCHEME}…, got {path!r}; for another store use ObjectStoragePath"
            )
        return FolderSide(check_path(path, parameter))
    if location.protocol == "mictlanx":
        if store.fs.conn_id is None:
            raise ValidationError(f"{location} must have a connection: {SCHEME}conn_id@bucket[/prefix]")
        return replace(BucketPath.parse(SCHEME + store.path), conn_id=store.fs.conn_id)
    return StoreSide(location, store)
