"""``MictlanXDagBundle``: versioned DAGs in MictlanX, for Airflow 3."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from airflow.dag_processing.bundles import base
from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersionLock
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mictlanx.batches import folder_versions
from airflow_provider_mictlanx.batches.folder_versions import REPLICAS, read_local_manifest
from airflow_provider_mictlanx.batches.runner import REQUEST_TIMEOUT, TransferOptions
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import MictlanXError, UnknownError
from airflow_provider_mictlanx.client.retry import deadline_scope
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.hooks.sync_runner import Runner

T = TypeVar("T")
log = get_logger(__name__)

CHECK_SECONDS = 10.0
"""Seconds to ask for the current version while a local copy can be used instead."""


class MictlanXDagBundle(BaseDagBundle):
    """
    DAGs that ``publish`` stored in MictlanX as versions. A run keeps the version with which it began.

    Local copies are complete: each appears under its version by one rename. While the storage does not answer, the last
    version stays in use, after a restart too.

    :param bucket_id: the bucket of the files; that of the versions' list is ``{bucket_id}-versions``
    :param bundle: the bundle's name in this bucket: letters, digits, and single ``-`` or ``_`` between them
    :param mictlanx_conn_id: the connection
    :param request_timeout: seconds for one request; default: the connection's, else 120
    :param kwargs: parameters of every bundle: ``name``, ``refresh_interval``, ``version``, ``view_url_template``
    """

    supports_versioning = True

    def __init__(
        self,
        *,
        bucket_id: str,
        bundle: str = "dags",
        mictlanx_conn_id: str = MictlanXHook.default_conn_name,
        request_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.bundle = bundle
        self.mictlanx_conn_id = mictlanx_conn_id
        self.request_timeout = request_timeout
        self._in_use: BundleVersionLock | None = None

    @property
    def path(self) -> Path:
        """The local copy of the version; without one, a link to that of the current version."""
        return self.base_dir / "current" if self.version is None else self._copy_of(self.version)

    def _copy_of(self, version: str) -> Path:
        return self.versions_dir / version

    def initialize(self) -> None:
        """
        Make the files of the version available at ``path``; without a version, those of the current one.

        Raises ``MictlanXError`` if neither a local copy nor the storage can be read.
        """
        if self.version is None:
            self.refresh()
        else:
            self._fetch(self.version)
        super().initialize()

    def refresh(self) -> None:
        """
        Switch ``path`` to the current version.

        If that fails, the last version stays in use and one line is logged; without one, ``MictlanXError`` is raised.
        """
        if self.version is not None:
            raise AirflowException(f"refreshing bundle {self.name!r} failed: version {self.version} never changes")
        before = self._current()
        usable = before is not None and read_local_manifest(self._copy_of(before)) is not None
        try:
            version = self._call(partial(self._find_current, before, CHECK_SECONDS if usable else None))
            self._fetch(version)
            self._switch(before, version)
        except MictlanXError as error:
            if not usable:
                raise
            log.error("Bundle %r was not refreshed, version %s stays in use: %s", self.name, before, error)
        self._keep_from_cleanup()

    def get_current_version(self) -> Any:
        """Return the version of the files at ``path``: a ``BundleVersion``, before Airflow 3.3 a str."""
        version = self._current() if self.version is None else self.version
        if version is None or not hasattr(base, "BundleVersion"):
            return version
        return base.BundleVersion(version, {"bucket_id": self.bucket_id, "bundle": self.bundle})

    def publish(
        self, folder: str | os.PathLike[str], *, rf: int = REPLICAS, max_concurrency: int | None = None
    ) -> dict[str, Any]:
        """
        Publish a folder as the current version; parameters, result and errors: see ``folder_versions.publish``.

        :param max_concurrency: chunks in flight of all files together; default: chosen by their sizes
        """

        async def publish(client: AsyncClient, timeout: float) -> dict[str, Any]:
            options = TransferOptions(max_concurrency=max_concurrency, timeout=timeout)
            return await folder_versions.publish(client, folder, self.bucket_id, self.bundle, rf=rf, options=options)

        return self._call(publish)

    def remove_old_versions(self, days: float) -> dict[str, Any]:
        """Remove versions from the storage; parameters, result and errors: see ``folder_versions``."""

        async def remove(client: AsyncClient, timeout: float) -> dict[str, Any]:
            return await folder_versions.remove_old_versions(
                client, self.bucket_id, self.bundle, days=days, timeout=timeout
            )

        return self._call(remove)

    def _current(self) -> str | None:
        """Return the version to which the link leads; None before the first refresh."""
        try:
            return os.readlink(self.base_dir / "current").rpartition("/")[2]
        except FileNotFoundError:
            return None

    async def _find_current(
        self, known: str | None, deadline: float | None, client: AsyncClient, timeout: float
    ) -> str:
        async with deadline_scope(deadline, f"finding the current version of bundle {self.name!r}"):
            return await folder_versions.find_current_version(
                client, self.bucket_id, self.bundle, known=known, timeout=timeout
            )

    def _fetch(self, version: str) -> None:
        """Read a version into its folder, unless a complete copy exists; of several processes, one reads it."""
        folder_versions.check_version(version)
        copy = self._copy_of(version)
        if read_local_manifest(copy) is not None:
            return
        with self.lock():
            if read_local_manifest(copy) is not None:
                return
            new, damaged = self.base_dir / "new", self.base_dir / "damaged"
            for leftover in (new, damaged):
                shutil.rmtree(leftover, ignore_errors=True)

            async def fetch(client: AsyncClient, timeout: float) -> None:
                await folder_versions.fetch(
                    client,
                    self.bucket_id,
                    self.bundle,
                    version,
                    new,
                    self._cache,
                    options=TransferOptions(timeout=timeout),
                )

            try:
                self._call(fetch)
                self.versions_dir.mkdir(parents=True, exist_ok=True)
                if copy.exists():
                    log.warning("Bundle %r: the local copy of version %s is incomplete; renewed", self.name, version)
                    copy.rename(damaged)
                new.rename(copy)
            except OSError as error:
                raise UnknownError(
                    f"writing version {version} of bundle {self.name!r} to {copy} failed: {error.strerror or error}",
                    transient=False,
                ) from error

    @property
    def _cache(self) -> Path:
        return self.base_dir / "cache"

    def _switch(self, before: str | None, version: str) -> None:
        """Lead the link to a version, unless another process has changed it since ``before`` was read."""
        if version == before:
            return
        with self.lock():
            if self._current() != before:
                return
            link = self.base_dir / "current.new"
            link.unlink(missing_ok=True)
            link.symlink_to(Path(self.versions_dir.name, version))
            link.replace(self.base_dir / "current")
            manifest = read_local_manifest(self._copy_of(version))
            keys = {file.key(self.bundle) for file in manifest.files} if manifest else set()
            for file in [file for file in self._cache.rglob("*") if file.is_file()]:
                if file.relative_to(self._cache).as_posix() not in keys:
                    file.unlink()
        log.info("Bundle %r: version %s is current", self.name, version)

    def _keep_from_cleanup(self) -> None:
        """Lock the local copy of the current version, as Airflow does for a task's version: it removes unused ones."""
        version, before = self._current(), self._in_use
        if before is None or before.version != version:
            self._in_use = BundleVersionLock(self.name, version)  # type: ignore[no-untyped-call]
            self._in_use.__enter__()
            if before is not None:
                before.release()  # type: ignore[no-untyped-call]

    def _call(self, method: Callable[[AsyncClient, float], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine with an open client and the seconds for one request."""
        hook = MictlanXHook(self.mictlanx_conn_id)
        given = (self.request_timeout, hook.settings.timeout, REQUEST_TIMEOUT)
        timeout = next(seconds for seconds in given if seconds is not None)

        async def run() -> T:
            async with hook.open_client() as client:
                return await method(client, timeout)

        return Runner().run(run)
