"""
Publish a folder as versions that readers fetch completely or not at all, such as a DAG bundle.

A version consists of three kinds of balls. None is written twice with different bytes.

- ``{bundle}/files/{date}/{sha256}`` is the content of a file. The date is the day (UTC) on which it was sent.
- ``{bundle}/manifests/{version}`` lists the files. Its SHA-256 is the version.
- ``{bundle}_{number}_{time}_{version}`` is a release, in the bucket ``{bucket_id}-versions``. It makes the version
  current, unless another release has a higher number. It is written last. Its name contains everything, so the current
  version changes when the release is announced, in one step.

The date protects a publication from a simultaneous ``remove_old_versions``, which keeps young files. A publication
reuses older files only from the current version, which is kept too. It never reuses the manifest of an older version,
which may be removed at this moment: it sends the smallest file again, whose new date makes another manifest.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pydantic
from humanfriendly.text import pluralize
from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_mictlanx.batches.delete import DeleteOptions, delete_keys
from airflow_provider_mictlanx.batches.download import download_items, prepare_folder
from airflow_provider_mictlanx.batches.local_paths import local_paths
from airflow_provider_mictlanx.batches.runner import REQUEST_TIMEOUT, Batch, Item, TransferOptions, batch_error
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import for_each, run_in_thread
from airflow_provider_mictlanx.client.errors import (
    GetChunkError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
    ValidationError,
)
from airflow_provider_mictlanx.client.local_io.atomic_file import check_path
from airflow_provider_mictlanx.client.local_io.chunk_splitter import ChunkManifest
from airflow_provider_mictlanx.client.object_ids import check_bucket_may_change
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.validation import check_non_negative
from airflow_provider_mictlanx.safe_ids import is_safe_id

log = get_logger(__name__)

REPLICAS = 3
"""Number of peers that store each ball of a version; all of them if there are fewer."""

YOUNG_DAYS = 2
"""Days for which a sent file is kept: a publication may be about to list it."""

MAX_MANIFEST_SIZE = 64_000_000
"""Limit for the size of a manifest, in bytes."""

MANIFEST_NAME = ".mictlanx-manifest.json"
"""Name of the manifest in the local copy of a version. No published file has it, since hidden files are left out."""

KEPT_HIDDEN_FILES = frozenset({".airflowignore"})
"""Hidden files that are published."""

READ_AT_ONCE = 8
"""Limit for the files that are hashed, and for the manifests that are read, at the same time."""

_VERSION = re.compile("[0-9a-f]{64}")

_FILE = re.compile(rf"\d{{4}}-\d\d-\d\d/{_VERSION.pattern}")

_RELEASE = re.compile(rf"(?P<bundle>.+)_(?P<number>\d{{8}})_(?P<seconds>\d+)_(?P<version>{_VERSION.pattern})")

_LOST = (NotFoundError, GetChunkError, IntegrityError)
"""Errors of a ball whose bytes were never sent, or are lost."""

Sha256 = Annotated[str, Field(pattern=f"^{_VERSION.pattern}$")]


class PublishedFile(BaseModel):
    """
    A file of a version.

    :ivar path: relative to the folder, with ``/``
    :ivar sent: the day (UTC) on which its content was sent
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]
    executable: bool
    sent: date

    def key(self, bundle: str) -> str:
        """Return the key of its content."""
        return f"{bundle}/files/{self.sent}/{self.sha256}"


class Manifest(BaseModel):
    """The files of a version, sorted by path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[PublishedFile, ...]

    def as_bytes(self) -> bytes:
        """Return the canonical JSON, whose SHA-256 is the version."""
        return self.model_dump_json().encode()

    @property
    def version(self) -> str:
        """The version that consists of these files."""
        return hashlib.sha256(self.as_bytes()).hexdigest()

    def is_complete(self, folder: Path) -> bool:
        """Return whether a folder contains every file with its size."""
        try:
            return all((folder / file.path).stat().st_size == file.size for file in self.files)
        except OSError:
            return False


@dataclass(frozen=True, order=True)
class Release:
    """
    A release, which made a version current; the greatest one still does.

    :ivar seconds: time of its publication, in seconds since 1970
    """

    number: int
    seconds: int
    version: str

    def name(self, bundle: str) -> str:
        """Return its ball id."""
        return f"{bundle}_{self.number:08}_{self.seconds}_{self.version}"


def releases_bucket(bucket_id: str) -> str:
    """Return the bucket of the releases: small, since every refresh lists it."""
    return f"{bucket_id}-versions"


# Publish


async def publish(
    client: AsyncClient,
    folder: str | os.PathLike[str],
    bucket_id: str,
    bundle: str = "dags",
    *,
    rf: int = REPLICAS,
    options: TransferOptions | None = None,
    log_progress: Callable[[str], None] = log.info,
) -> dict[str, Any]:
    """
    Publish a folder as the current version of a bundle. An interrupted call leaves the old version or the new one.

    Left out are ``__pycache__``, ``*.pyc``, and hidden files and folders other than ``.airflowignore``. A symbolic link
    to a file in the folder is published as that file. Files that the current version contains are not sent again.

    Returns ``{bucket_id, bundle, version, published, total_files, total_size, uploaded, uploaded_size,
    response_time}``: ``published`` is False if the folder is the current version already.

    Raises ``ValidationError`` if a file can't be published, ``BatchError`` if one could not be stored, and
    ``UnavailableError`` if a peer does not answer.

    :param bucket_id: the bucket of the files; that of the releases is ``{bucket_id}-versions``
    :param bundle: the bundle's name in this bucket: letters, digits, and single ``-`` or ``_`` between them
    :param rf: number of peers that must store every file
    :param options: default: those of ``TransferOptions``
    :param log_progress: logs a line of progress every few seconds
    """
    started = time.monotonic()
    check_bucket_may_change(bucket_id, allow_reserved_bucket=False)
    check_bundle(bundle)
    options = options or TransferOptions()
    plans = await _plan(client, folder)
    releases, _ = await _list_releases(client, bucket_id, bundle, options.timeout)
    current = max(releases, default=None)
    stored = await _stored_files(client, bucket_id, bundle, current, options.timeout)
    today = datetime.now(UTC).date()
    manifest = _describe(plans, stored, today)
    reused = {file.sha256: file.size for file in manifest.files if file.sent != today}
    older = {release.version for release in releases} - {current.version if current else ""}
    if reused and manifest.version in older:
        del stored[min(reused, key=reused.__getitem__)]
        manifest = _describe(plans, stored, today)
    missing = {file.key(bundle): plans[file.path] for file in manifest.files if file.sha256 not in stored}

    async def upload(item: Item) -> bool:
        source, plan = missing[item.key]
        report = await client.upload(
            bucket_id, item.key, path=source, chunk_size=None, rf=rf, expected=plan, **options.for_one_of(len(missing))
        )
        return unwrap(report).uploaded

    items = [Item(bucket_id, key, plan.size) for key, (_, plan) in missing.items()]
    outcome = await Batch(options.max_concurrency, log_progress, "publishing").run(items, upload)
    version = manifest.version
    result = {
        "bucket_id": bucket_id,
        "bundle": bundle,
        "version": version,
        "published": current is None or current.version != version,
        "total_files": len(manifest.files),
        "total_size": sum(file.size for file in manifest.files),
        "uploaded": outcome.done,
        "uploaded_size": outcome.done_size,
        "response_time": round(time.monotonic() - started, 6),
    }
    if outcome.failures:
        raise batch_error(f"publishing {folder} as bundle {bundle!r} of bucket {bucket_id}", outcome, result)
    # A release that was only announced counts. Writing it again completes it.
    release = current
    if release is None or release.version != version:
        release = Release(1 + (current.number if current else 0), int(time.time()), version)
    await _put(client, bucket_id, _manifest_key(bundle, version), manifest.as_bytes(), options)
    await _put(client, releases_bucket(bucket_id), release.name(bundle), version.encode(), options)
    log_progress(publication_line(result))
    return result | {"response_time": round(time.monotonic() - started, 6)}


def publication_line(result: Mapping[str, Any]) -> str:
    """Return the log line for a result of ``publish``."""
    return (
        f"Version {result['version']} of bundle {result['bundle']!r} in bucket {result['bucket_id']} "
        f"{'is published' if result['published'] else 'was current already'}: "
        f"{pluralize(result['total_files'], 'file')}, {result['uploaded']} sent"
    )


def check_bundle(bundle: str) -> str:
    """Return the name of a bundle, or raise ``ValidationError`` if it can't be part of a ball id."""
    if not isinstance(bundle, str) or not is_safe_id(bundle):
        raise ValidationError(
            f"bundle must be letters, digits, and single '-' or '_' between them, got {bundle!r}; choose another name"
        )
    return bundle


def check_version(version: str) -> str:
    """Return a version, or raise ``ValidationError`` if it is not a SHA-256."""
    if not _VERSION.fullmatch(version):
        raise ValidationError(f"version must be a SHA-256 in hex, got {version!r}")
    return version


async def _plan(client: AsyncClient, folder: str | os.PathLike[str]) -> dict[str, tuple[Path, ChunkManifest]]:
    """Hash the files of a folder; return path and plan by the path relative to the folder, sorted."""
    root = check_path(folder, "folder")
    paths = await run_in_thread(lambda: sorted(_list_files(root)))
    if not paths:
        raise ValidationError(f"folder must contain files to publish, got {str(root)!r}, which contains none")
    check_paths(paths)
    plans: dict[str, tuple[Path, ChunkManifest]] = {}

    async def plan(path: str) -> None:
        plans[path] = root / path, unwrap(await client.plan(path=root / path, chunk_size=None))

    await for_each(paths, plan, READ_AT_ONCE)
    return {path: plans[path] for path in paths}


def _list_files(root: Path) -> Iterator[str]:
    """Yield the relative paths of the files to publish."""

    def refuse(error: OSError) -> None:
        raise ValidationError(f"folder must be readable, got {error.filename!r}: {error.strerror}") from error

    real_root = root.resolve()
    for place, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not _is_left_out(name)]
        for name in [*names, *(name for name in folders if os.path.islink(os.path.join(place, name)))]:
            path = Path(place, name)
            if _is_left_out(name):
                continue
            if not path.is_file() or not path.resolve().is_relative_to(real_root):
                raise ValidationError(
                    f"folder must contain only files, folders, and links to files in it, got {str(path)!r}; remove it, "
                    "or copy the file that it leads to"
                )
            yield path.relative_to(root).as_posix()


def _is_left_out(name: str) -> bool:
    return name == "__pycache__" or name.endswith(".pyc") or (name.startswith(".") and name not in KEPT_HIDDEN_FILES)


def _describe(plans: dict[str, tuple[Path, ChunkManifest]], stored: dict[str, date], today: date) -> Manifest:
    """Return the manifest of planned files, of which those in ``stored`` were sent on earlier days."""
    return Manifest(
        files=tuple(
            PublishedFile(
                path=path,
                sha256=plan.checksum,
                size=plan.size,
                executable=_is_executable(source),
                sent=stored.get(plan.checksum, today),
            )
            for path, (source, plan) in plans.items()
        )
    )


def _is_executable(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IXUSR)
    except OSError as error:
        raise IntegrityError(f"{path} changed while its folder was published; publish the folder again") from error


async def _stored_files(
    client: AsyncClient, bucket_id: str, bundle: str, current: Release | None, timeout: float
) -> dict[str, date]:
    """
    Return the day on which each file of the current version was sent, by SHA-256.

    A publication records only acknowledged files, and the listing shows which are still stored.
    """
    if current is None:
        return {}
    try:
        manifest = await read_manifest(client, bucket_id, bundle, current.version, timeout)
    except _LOST as error:
        log.warning("The manifest of the current version can't be read, so all files are sent again: %s", error)
        return {}
    listed = {
        (ball.key, ball.checksum)
        for ball in unwrap(await client.list_balls(bucket_id, f"{bundle}/files/", timeout=timeout))
    }
    return {file.sha256: file.sent for file in manifest.files if (file.key(bundle), file.sha256) in listed}


async def _put(client: AsyncClient, bucket_id: str, key: str, data: bytes, options: TransferOptions) -> None:
    unwrap(await client.upload(bucket_id, key, data=data, chunk_size=None, rf=REPLICAS, **options.for_one_of(1)))


def _manifest_key(bundle: str, version: str) -> str:
    return f"{bundle}/manifests/{version}"


# Read


async def find_current_version(
    client: AsyncClient,
    bucket_id: str,
    bundle: str = "dags",
    *,
    known: str | None = None,
    timeout: float = REQUEST_TIMEOUT,
) -> str:
    """
    Return the current version, by one listing and one request for the peers.

    Raises ``NotFoundError`` if nothing is published. If a peer does not answer, a listed release still counts.
    ``UnavailableError`` is raised if a newer one may be hidden: if ``known`` is not listed, or, without ``known``, if
    the silent peers may have all replicas of a release.

    :param known: the version that the caller has
    """
    releases, missing = await _list_releases(client, bucket_id, bundle, timeout, partial=True)
    hidden = len(missing) >= REPLICAS or not releases if known is None else known not in {r.version for r in releases}
    if missing and hidden:
        raise UnavailableError(
            f"finding the current version of bundle {bundle!r} in bucket {bucket_id} failed: peer "
            f"{', '.join(missing)} does not answer, so a release may be hidden; try again when it answers"
        )
    if not releases:
        raise NotFoundError(
            f"bundle {bundle!r} in bucket {bucket_id} has no published version; publish a folder, or correct bucket_id "
            "and bundle"
        )
    return max(releases).version


async def _list_releases(
    client: AsyncClient, bucket_id: str, bundle: str, timeout: float, *, partial: bool = False
) -> tuple[set[Release], list[str]]:
    """
    Return the releases of a bundle, and the peers that do not answer.

    :param partial: accept that peers do not answer, instead of raising ``UnavailableError``
    """
    bucket = releases_bucket(bucket_id)
    listing = unwrap(await client.get_chunks_by_bucket_id(bucket, timeout, partial=partial, name_missing=False))
    missing = unwrap(await client.missing_peers(listing, timeout)) if partial else []
    found = (_RELEASE.fullmatch(chunk.ball_id) for chunk in listing.balls)
    releases = {
        Release(int(match["number"]), int(match["seconds"]), match["version"])
        for match in found
        if match and match["bundle"] == bundle
    }
    return releases, missing


async def read_manifest(
    client: AsyncClient, bucket_id: str, bundle: str, version: str, timeout: float = REQUEST_TIMEOUT
) -> Manifest:
    """
    Read the manifest of a version.

    Raises ``NotFoundError`` if it was removed, and ``IntegrityError`` if its bytes are not those that were published,
    or if a path could leave the folder.
    """
    key = _manifest_key(bundle, version)
    try:
        data = bytes(unwrap(await client.get(bucket_id, key, timeout=timeout, max_size=MAX_MANIFEST_SIZE)).data)
    except NotFoundError as error:
        raise NotFoundError(
            f"version {version} of bundle {bundle!r} is not stored in bucket {bucket_id}: it was removed, or its "
            f"publication was interrupted; publish the folder again ({error})",
            transient=error.transient,
        ) from error
    if hashlib.sha256(data).hexdigest() != version:
        raise IntegrityError(f"manifest {bucket_id}/{key} must have the SHA-256 in its name; publish the folder again")
    try:
        manifest = Manifest.model_validate_json(data)
        check_paths(file.path for file in manifest.files)
    except (pydantic.ValidationError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else error
        raise IntegrityError(f"manifest {bucket_id}/{key} is invalid: {reason}; publish the folder again") from error
    return manifest


def check_paths(paths: Iterable[str], case_insensitive: bool = False) -> None:
    """Raise ``ValidationError`` unless the paths are printable, normalized, and different files below one folder."""
    for (_, path), place in local_paths((("", path) for path in paths), case_insensitive).items():
        reason = str(place) if isinstance(place, ValidationError) else ""
        if not reason and str(place) != path:
            reason = f"it must be written as {str(place)!r}"
        if not reason and not path.isprintable():
            reason = "it contains characters that can't be printed"
        if reason:
            raise ValidationError(f"path must be a file below the folder, got {path!r}: {reason}")


async def fetch(
    client: AsyncClient,
    bucket_id: str,
    bundle: str,
    version: str,
    target: Path,
    cache: Path,
    *,
    options: TransferOptions,
    log_progress: Callable[[str], None] = log.info,
) -> Manifest:
    """
    Read a version into a new folder. Files that the cache contains are not read again.

    :param target: the folder; it must not exist
    :param cache: a folder with the contents of files, by their keys; created if missing
    """
    manifest = await read_manifest(client, bucket_id, bundle, version, options.timeout)
    root, case_insensitive = await prepare_folder(cache)
    check_paths((file.path for file in manifest.files), case_insensitive)
    items = {file.sha256: Item(bucket_id, file.key(bundle), file.size, file.sha256) for file in manifest.files}.values()
    outcome = await download_items(
        client, [*items], root, pin_checksum=True, replace=True, options=options, log_progress=log_progress
    )
    if outcome.failures:
        raise batch_error(f"reading version {version} of bundle {bundle!r} in bucket {bucket_id}", outcome, {})
    keys = {item.checksum: item.key for item in items}
    await run_in_thread(lambda: _assemble(manifest, target, {sha: root / key for sha, key in keys.items()}))
    return manifest


def _assemble(manifest: Manifest, target: Path, contents: dict[str, Path]) -> None:
    """
    Copy the files of a version into a new folder, with its manifest.

    They are copies, not links: a changed local file then stays local, and Airflow parses a file again if it is newer.
    """
    target.mkdir(parents=True)
    for file in manifest.files:
        place = target / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(contents[file.sha256], place)
        if file.executable:
            place.chmod(place.stat().st_mode | 0o111)
    (target / MANIFEST_NAME).write_bytes(manifest.as_bytes())


def read_local_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of the local copy of a version; None if the copy is missing or incomplete."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except (OSError, pydantic.ValidationError):
        return None
    return manifest if manifest.is_complete(folder) else None


# Remove


async def remove_old_versions(
    client: AsyncClient,
    bucket_id: str,
    bundle: str = "dags",
    *,
    days: float,
    timeout: float = REQUEST_TIMEOUT,
    log_progress: Callable[[str], None] = log.info,
) -> dict[str, Any]:
    """
    Remove the versions that were replaced more than some days ago, and the files that only they contain.

    A worker that has no copy of a removed version can't run tasks of it any more. The current version stays. An
    interrupted call is completed by the next one.

    Returns ``{bucket_id, bundle, removed, kept, deleted, failed}``: ``removed`` and ``kept`` count versions,
    ``deleted`` and ``failed`` balls. Raises ``UnavailableError`` if a peer does not answer.

    :param days: at least 1, and more than the longest run takes, since a run keeps the version with which it began
    """
    check_bucket_may_change(bucket_id, allow_reserved_bucket=False)
    check_bundle(bundle)
    if check_non_negative("days", days) < 1:
        raise ValidationError(f"days must be at least 1, got {days!r}")
    found, _ = await _list_releases(client, bucket_id, bundle, timeout)
    releases = sorted(found)
    replaced_before = time.time() - timedelta(days=days).total_seconds()
    expired = [release for release, successor in pairwise(releases) if successor.seconds < replaced_before]
    kept = {release.version for release in releases if release not in expired}
    removed = {release.version for release in expired} - kept
    needed: set[str] = set()

    async def read(version: str) -> None:
        manifest = await read_manifest(client, bucket_id, bundle, version, timeout)
        needed.update(file.key(bundle) for file in manifest.files)

    await for_each(kept, read, READ_AT_ONCE)
    prefix = f"{bundle}/files/"
    balls = unwrap(await client.list_balls(bucket_id, prefix, timeout=timeout))
    listed = [ball for ball in balls if _FILE.fullmatch(ball.key.removeprefix(prefix))]  # nobody else's objects
    newest_old_day = (datetime.now(UTC) - timedelta(days=YOUNG_DAYS)).date().isoformat()
    old = [
        ball.key for ball in listed if ball.key.removeprefix(prefix)[:10] < newest_old_day and ball.key not in needed
    ]
    doing = DeleteOptions(timeout=timeout)
    outcomes = [
        await delete_keys(client, bucket_id, [_manifest_key(bundle, version) for version in removed], doing),
        await delete_keys(client, bucket_id, old, doing, log_progress),
    ]
    if not any(outcome.failures for outcome in outcomes):
        # Releases come last, so that an interrupted call is repeated.
        names = [release.name(bundle) for release in expired]
        outcomes.append(await delete_keys(client, releases_bucket(bucket_id), names, doing))
    result = {
        "bucket_id": bucket_id,
        "bundle": bundle,
        "removed": len(removed),
        "kept": len(kept),
        "deleted": sum(outcome.done for outcome in outcomes),
        "failed": sum(outcome.failed for outcome in outcomes),
    }
    for outcome in outcomes:
        if outcome.failures:
            raise batch_error(f"removing old versions of bundle {bundle!r} in bucket {bucket_id}", outcome, result)
    log_progress(
        f"Bundle {bundle!r} in bucket {bucket_id}: {len(removed)} old versions removed, {len(kept)} kept, "
        f"{result['deleted']} objects deleted"
    )
    return result
