"""
Read many balls into one folder, each under its key, and keep existing files with the right bytes.

A second run reads one listing, hashes the existing files, and downloads only the others. Every file appears when it is
complete and verified.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_mictlanx.batches.local_paths import is_case_insensitive, local_paths
from airflow_provider_mictlanx.batches.runner import REQUEST_TIMEOUT, Batch, BatchResult, Item, TransferOptions
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import Threads, run_in_thread
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.local_io.atomic_file import OpenFolder, check_path, has_content
from airflow_provider_mictlanx.client.local_io.sinks import BATCH_SIZE
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PlacedItem(Item):
    """A ball with the path of its file, or with an error if it can't be a file."""

    path: Path = Path()
    problem: ValidationError | None = None


async def list_bucket_items(
    client: AsyncClient, bucket_id: str, prefix: str = "", glob: str = "", timeout: float = REQUEST_TIMEOUT
) -> list[Item]:
    """Return the balls that a bucket lists; parameters and errors: see ``AsyncClient.list_balls``."""
    balls = unwrap(await client.list_balls(bucket_id, prefix, glob, timeout))
    names = Counter(ball.key for ball in balls)
    # If a ball and an object with a key of its own have the same name, readers get the ball, which is looked up.
    return [
        Item(ball.bucket_id, ball.key, ball.size, ball.checksum, ball if names[ball.key] == 1 else None)
        for ball in balls
    ]


async def prepare_folder(folder: str | os.PathLike[str]) -> tuple[Path, bool]:
    """
    Create a folder if missing; return its path, and whether it ignores the case of names.

    Raises ``ValidationError`` if it is not a folder, or can't be created or written to.
    """
    if folder == "":
        raise ValidationError("output_path must not be empty; use '.' for the working directory")
    root = check_path(folder, "output_path")

    def check() -> bool:
        with OpenFolder(root) as place:
            place.check_writable()
            return is_case_insensitive(root)

    return root, await run_in_thread(check)


async def download_items(
    client: AsyncClient,
    items: Sequence[Item],
    root: Path,
    *,
    prefix: str = "",
    case_insensitive: bool = False,
    pin_checksum: bool = False,
    replace: bool = False,
    options: TransferOptions,
    log_progress: Callable[[str], None] = log.info,
) -> BatchResult:
    """
    Read balls into files below a prepared folder; a ball whose key can't be a file there is a failure.

    :param prefix: removed from the start of the keys
    :param case_insensitive: whether the folder ignores the case of names
    :param pin_checksum: fail a ball whose bytes do not match its item's checksum
    :param replace: overwrite files with different content, instead of reporting a failure
    """
    files = await run_in_thread(lambda: place_items(items, root, prefix, case_insensitive))
    real_root = await run_in_thread(root.resolve)
    threads = Threads(4)
    unverified = 0

    async def read(file: PlacedItem) -> bool:
        nonlocal unverified
        if file.problem is not None:
            raise file.problem
        await threads.run(_check_inside, file.path, real_root)
        if file.checksum and await has_content(file.path, file.size, file.checksum, threads):
            return False
        result = await client.download(
            file.bucket_id,
            file.key,
            file.path.parent,
            filename=file.path.name,
            replace=replace,
            checksum=file.checksum if pin_checksum else None,
            listed=file.listed,
            **options.for_one_of(len(files)),
        )
        report = unwrap(result)
        unverified += not report.verified
        return report.downloaded

    try:
        batch = Batch(options.max_concurrency, log_progress, "reading", memory=lambda file: min(file.size, BATCH_SIZE))
        outcome = await batch.run(files, read)
    finally:
        threads.close()
    outcome.unverified = unverified
    return outcome


def place_items(
    items: Sequence[Item], root: Path, prefix: str = "", case_insensitive: bool = False
) -> list[PlacedItem]:
    """Return the balls with the paths of their files below a folder; parameters: see ``download_items``."""

    def name(item: Item) -> tuple[str, str]:
        return item.bucket_id, item.key.removeprefix(prefix)

    places = local_paths(map(name, items), case_insensitive)

    def place(item: Item) -> PlacedItem:
        found = places[name(item)]
        known = (item.bucket_id, item.key, item.size, item.checksum, item.listed)
        return (
            PlacedItem(*known, problem=found)
            if isinstance(found, ValidationError)
            else PlacedItem(*known, root / found)
        )

    return [place(item) for item in items]


def _check_inside(path: Path, root: Path) -> None:
    """Raise ``ValidationError`` if a symbolic link leads out of the folder, or links form a loop."""
    try:
        inside = path.parent.resolve().is_relative_to(root)
    except RuntimeError as error:  # raised by Python before 3.13
        raise ValidationError(
            f"symbolic links must not form a loop: {path} can't be reached; remove the links"
        ) from error
    if not inside:
        raise ValidationError(
            f"a symbolic link must not lead out of the folder: {path} is not in {root}; remove the link"
        )
