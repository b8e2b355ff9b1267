"""
Write many balls into a folder of another store, through its fsspec filesystem.

Each ball is read into a temporary file and verified before a byte of it is sent. Object stores show a name when its
upload is complete, and never show an aborted one. In every other store, the file is written under a temporary name in
its folder, and renamed.

fsspec has no checksum that all stores share. A file with the size of the ball is therefore read and hashed, and is kept
if its SHA-256 is the ball's.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_mictlanx.batches.download import place_items
from airflow_provider_mictlanx.batches.runner import Batch, BatchResult, Item, TransferOptions
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import PIECE, Threads, run_in_thread
from airflow_provider_mictlanx.client.errors import FileAlreadyExists, MictlanXError, UnknownError
from airflow_provider_mictlanx.client.local_io.fsspec_source import describe_error, find_files
from airflow_provider_mictlanx.client.object_ids import part_name
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger

log = get_logger(__name__)

ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "mictlanx"})
"""Protocols of stores in which a name appears when its upload is complete."""

LOCAL = ("", "file", "local")
"""Protocols of paths on this machine."""

AT_ONCE = 8
"""Limit for the calls of the filesystem at the same time: it blocks a thread for each."""


def is_remote(path: Any) -> bool:
    """Return whether a path, such as an ``ObjectStoragePath`` or ``UPath``, is in another store."""
    return getattr(path, "protocol", "") not in LOCAL and hasattr(path, "fs") and hasattr(path, "path")


@dataclass(frozen=True)
class Store:
    """
    A folder of another store.

    :ivar fs: its fsspec filesystem
    :ivar path: the folder's path in it
    :ivar name: for messages
    """

    fs: Any
    path: str
    name: str

    @classmethod
    def at(cls, path: Any) -> Store | None:
        """Return the folder of an ``ObjectStoragePath`` or ``UPath``; None for a path on this machine."""
        return cls(path.fs, str(path.path).rstrip("/"), str(path).rstrip("/")) if is_remote(path) else None

    def file(self, name: str) -> str:
        """Return the path of a file in the folder."""
        return f"{self.path}/{name}"

    @property
    def is_atomic(self) -> bool:
        """True if a name appears when its upload is complete."""
        protocol = self.fs.protocol
        return not ATOMIC.isdisjoint([protocol] if isinstance(protocol, str) else protocol)

    def info(self, name: str) -> Mapping[str, Any] | None:
        """Return the filesystem's information about a file; None if it does not exist. Blocks."""
        with self._errors(f"looking up {name}"):
            self.fs.invalidate_cache(posixpath.dirname(self.file(name)))
            with suppress(FileNotFoundError):
                info: Mapping[str, Any] = self.fs.info(self.file(name))
                return info
        return None

    def list(self) -> dict[str, Mapping[str, Any]]:
        """Return the filesystem's information about every file below the folder, by relative path. Blocks."""
        with self._errors("listing it"):
            self.fs.invalidate_cache()
            found = find_files(self.fs, self.path)
        base = self.fs._strip_protocol(self.path)
        names = ((path.removeprefix(base).lstrip("/"), info) for path, info in found.items())
        return {name: info for name, info in names if name and info.get("type") != "directory"}

    def hash(self, name: str) -> str:
        """Return the SHA-256 of a file in hex. Blocks."""
        digest = hashlib.sha256()
        with self._errors(f"reading {name}"), self.fs.open(self.file(name), "rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
        return digest.hexdigest()

    def delete(self, name: str) -> None:
        """Delete a file. Blocks."""
        with self._errors(f"deleting {name}"):
            self.fs.rm_file(self.file(name))

    def put(self, local: str, name: str, size: int) -> None:
        """Write a verified local file under a name, which appears when it is complete. Blocks."""
        target = self.file(name)
        folder, _, file = target.rpartition("/")
        written = target if self.is_atomic else f"{folder}/{part_name(file, secrets.token_hex(8))}"
        with self._errors(f"writing {name}"):
            if not self.is_atomic:
                self.fs.makedirs(folder, exist_ok=True)
            try:
                self.fs.put_file(local, written)
                self.fs.invalidate_cache(folder)
                if (stored := self.fs.info(written).get("size")) != size:
                    raise UnknownError(f"writing {name} in {self.name} failed: {stored} of {size} bytes arrived")
                if written != target:
                    self._rename(written, target)
            except BaseException:
                if written != target:
                    with suppress(Exception):  # the first error is raised
                        self.fs.rm_file(written)
                raise

    def _rename(self, path: str, target: str) -> None:
        """Rename a file. fsspec's own ``mv`` takes its path for a glob, such as one in a folder ``a[1]``."""
        from fsspec.spec import AbstractFileSystem  # slow to import, and few tasks need it

        if type(self.fs).mv is AbstractFileSystem.mv:
            self.fs.cp_file(path, target)
            self.fs.rm_file(path)
        else:
            self.fs.mv(path, target)

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        """Raise any error of the filesystem as ``UnknownError``, since each filesystem has its own classes."""
        try:
            yield
        except MictlanXError:
            raise
        except Exception as error:
            reason = (isinstance(error, OSError) and error.errno and os.strerror(error.errno)) or describe_error(error)
            raise UnknownError(f"{action} in {self.name} failed: {reason}") from error


async def export_items(
    client: AsyncClient,
    items: Sequence[Item],
    store: Store,
    *,
    prefix: str = "",
    pin_checksum: bool = False,
    replace: bool = False,
    options: TransferOptions,
    log_progress: Callable[[str], None] = log.info,
) -> BatchResult:
    """
    Write balls into files below a folder of another store; a ball whose key can't be a file there is a failure.

    Two balls, and those that fit into ``BATCH_BUDGET``, are on this machine's disk at the same time.

    :param prefix: removed from the start of the keys
    :param pin_checksum: fail a ball whose bytes do not match its item's checksum
    :param replace: overwrite files with different content, instead of reporting a failure
    """
    files = await run_in_thread(lambda: place_items(items, Path(), prefix=prefix))
    threads = Threads(AT_ONCE)
    unverified = 0

    async def has_content(name: str, size: int, checksum: str) -> bool:
        """Return whether the file has this content; raise ``FileAlreadyExists`` if it must not be replaced."""
        info = await threads.run(store.info, name)
        if info is None:
            return False
        if info.get("type") == "directory":
            raise FileAlreadyExists(f"{store.name}/{name} is a folder and is not replaced by a file")
        if checksum and info.get("size") == size and await threads.run(store.hash, name) == checksum:
            return True
        if checksum and not replace:
            raise FileAlreadyExists(f"{store.name}/{name} exists with other content; replace=True replaces it")
        return False

    with tempfile.TemporaryDirectory(prefix="mictlanx-") as folder:

        async def write(file: Any) -> bool:
            nonlocal unverified
            if file.problem is not None:
                raise file.problem
            name = file.path.as_posix()
            if await has_content(name, file.size, file.checksum):
                return False
            local = secrets.token_hex(8)
            try:
                result = await client.download(
                    file.bucket_id,
                    file.key,
                    folder,
                    filename=local,
                    checksum=file.checksum if pin_checksum else None,
                    listed=file.listed,
                    **options.for_one_of(len(files)),
                )
                report = unwrap(result)
                if report.checksum != file.checksum and await has_content(name, report.size, report.checksum):
                    return False
                await threads.run(store.put, report.path, name, report.size)
                unverified += not report.verified
            finally:
                await threads.run(Path(folder, local).unlink, missing_ok=True)
            return True

        try:
            batch = Batch(options.max_concurrency, log_progress, "exporting", memory=lambda item: item.size)
            outcome = await batch.run(files, write)
        finally:
            threads.close()
    outcome.unverified = unverified
    return outcome
