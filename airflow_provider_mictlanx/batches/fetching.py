"""
Many balls into one folder, each under its key; files that are there already, with the right bytes, are left as they are.

That is what makes it resumable: a second run asks for one listing, hashes what is there, and reads the rest. Every file appears
whole and verified, or not at all (``client.files``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_mictlanx.batches.places import folds_names, places_of
from airflow_provider_mictlanx.batches.running import Batch, BatchResult, Item, TransferOptions
from airflow_provider_mictlanx.bulks.errors import BulkFailedError
from airflow_provider_mictlanx.bulks.inthread import in_thread
from airflow_provider_mictlanx.bulks.status import State
from airflow_provider_mictlanx.bulks.storage import REQUEST_TIMEOUT
from airflow_provider_mictlanx.bulks.waiting import result_of
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.files import OpenFolder, has_content, path_of
from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.threads import Threads

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _File(Item):
    """A ball, and the file that it becomes; ``problem`` where it can't be one."""

    path: Path = Path()
    problem: ValidationError | None = None


async def balls_of_bucket(
    client: AsyncClient, bucket_id: str, prefix: str = "", glob: str = "", timeout: float = REQUEST_TIMEOUT
) -> list[Item]:
    """Give what a bucket lists; the parameters and errors are those of ``AsyncClient.list_balls``."""
    balls = value_of(await client.list_balls(bucket_id, prefix, glob, timeout))
    return [Item(ball.bucket_id, ball.key, ball.size, ball.checksum) for ball in balls]


async def balls_of_bulk(client: AsyncClient, bulk_id: str, timeout: float = REQUEST_TIMEOUT) -> list[Item]:
    """
    Give what was planned for a bulk, and is stored.

    ``BulkFailedError``: it is not complete; ``BulkConflictError``: it was awaited and closed without its items.
    """
    result = await result_of(client, bulk_id, include_items=True, request_timeout=timeout)
    if result["state"] != State.COMPLETE.value:
        raise BulkFailedError(
            f"bulk {bulk_id!r} failed for good: {result['failed']} of {result['total_balls']} balls are not stored, so it can't be "
            "read as a whole. Mend it and clear the upload task, or read its bucket instead",
            permanent=True,
            result={name: value for name, value in result.items() if name != "successes"},
        )
    return [Item(ball["bucket_id"], ball["key"], ball["size"], ball["checksum"]) for ball in result["successes"]]


async def prepare(folder: str | os.PathLike[str]) -> tuple[Path, bool]:
    """
    Make the folder, see that it can be written to, and how it takes names; gives its path, and whether it folds them.

    ``ValidationError``: it is no folder, or can't be made or written to.
    """
    if folder == "":
        raise ValidationError("output_path is empty: name a folder, or '.' for the working directory")
    root = path_of(folder, "output_path")

    def look() -> bool:
        with OpenFolder(root) as place:
            place.check_writable()
            return folds_names(root)

    return root, await in_thread(look)


async def fetch(
    client: AsyncClient,
    items: Sequence[Item],
    root: Path,
    *,
    folds: bool = False,
    exactly: bool = False,
    replace: bool = False,
    options: TransferOptions,
    tell: Callable[[str], None] = log.info,
) -> BatchResult:
    """
    Read balls into files below a folder, which was prepared; a ball whose key can't be a file there is a failure.

    :param folds: whether the folder takes names for the same that differ in case
    :param exactly: a ball that has other bytes by now than its item says is a failure
    :param replace: whether files with other content are replaced; else they are failures
    """
    files = await in_thread(lambda: _files(items, root, folds))
    real_root = await in_thread(root.resolve)
    threads = Threads(4)

    async def read(file: _File) -> bool:
        if file.problem is not None:
            raise file.problem
        await threads.run(_check_inside, file.path, real_root)
        if file.checksum and await has_content(file.path, file.size, file.checksum, threads):
            return False
        report = await client.download(
            file.bucket_id,
            file.key,
            file.path.parent,
            filename=file.path.name,
            replace=replace,
            checksum=file.checksum if exactly else None,
            **options.for_one_of(len(files)),
        )
        return value_of(report).downloaded

    try:
        return await Batch(options.max_concurrency, tell, "reading").run(files, read)
    finally:
        threads.close()


def _files(items: Sequence[Item], root: Path, folds: bool) -> list[_File]:
    places = places_of(((item.bucket_id, item.key) for item in items), folds)

    def file_of(item: Item) -> _File:
        place = places[item.bucket_id, item.key]
        known = (item.bucket_id, item.key, item.size, item.checksum)
        return _File(*known, problem=place) if isinstance(place, ValidationError) else _File(*known, root / place)

    return [file_of(item) for item in items]


def _check_inside(path: Path, root: Path) -> None:
    """Raise ``ValidationError`` where a link leads out of the folder, or nowhere."""
    try:
        inside = path.parent.resolve().is_relative_to(root)
    except RuntimeError as error:  # of Python before 3.13
        raise ValidationError(f"symbolic links lead to one another: {path} can't be reached") from error
    if not inside:
        raise ValidationError(f"a symbolic link leads out of the folder: {path} would not be in {root}")
