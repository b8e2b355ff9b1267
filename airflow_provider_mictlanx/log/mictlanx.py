"""
``MictlanXRemoteLogIO``: Airflow 3 uploads task logs to MictlanX, and its UI reads them there.

Airflow imports this module while it configures its logging, before it can import hooks. So everything that needs the
hook is imported at the first upload or read.
"""

from __future__ import annotations

import inspect
import math
import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow_provider_mictlanx.log.storage import LogStorage, Span

DEFAULT_CONN_ID = "mictlanx_default"

RETRY_PATIENCE = 2.0
"""
Seconds for an upload soon after a failed one. A triggerer uploads the logs of its triggers one after the other, and
does nothing else meanwhile.
"""

FAILURE_LASTS = 60.0
"""Seconds after a failed upload in which ``RETRY_PATIENCE`` applies."""


class MictlanXRemoteLogIO:
    """
    Upload and read task logs; the interface is Airflow's ``RemoteLogIO`` and ``RemoteLogStreamIO``.

    The logs of each DAG run are stored in a bucket of their own, ``{base bucket}-{32 hex digits}``; ``run_bucket``
    returns its id. No method except ``delete_runs`` raises an error: a log that can't be uploaded stays on the
    worker, and the task does not fail.

    :param base_log_folder: folder of the local logs
    :param remote_base: ``mictlanx://base-bucket``; the base bucket contains an index object for each run
    :param delete_local_copy: empty each local log once it is stored
    :param mictlanx_conn_id: the connection
    :param rf: number of peers that must store every part of a log
    :param upload_timeout: seconds for one upload, plus one second for each megabyte
    """

    processors: tuple[Any, ...] = ()

    def __init__(
        self,
        base_log_folder: str | os.PathLike[str],
        remote_base: str,
        delete_local_copy: bool = False,
        mictlanx_conn_id: str = DEFAULT_CONN_ID,
        rf: int = 1,
        upload_timeout: float = 20,
    ) -> None:
        place = urlsplit(remote_base)
        if place.scheme != "mictlanx" or not place.netloc or place.path.strip("/") or place.query:
            raise ValueError(f"remote_base_log_folder must be mictlanx://bucket, without a path, got {remote_base!r}")
        self.base_log_folder = Path(base_log_folder)
        self.base_bucket = place.netloc
        self.delete_local_copy = delete_local_copy
        self.mictlanx_conn_id = mictlanx_conn_id
        self.rf = rf
        self.upload_timeout = upload_timeout
        self._failed_at = -math.inf

    @classmethod
    def from_config(cls) -> Self:
        """
        Build the log storage of Airflow's configuration.

        It is described by ``[logging] base_log_folder, remote_base_log_folder, delete_local_logs, remote_log_conn_id``
        and ``remote_task_handler_kwargs``, which may contain ``rf`` and ``upload_timeout``.
        """
        from airflow.configuration import conf

        return cls(
            os.path.expanduser(conf.get_mandatory_value("logging", "base_log_folder")),
            conf.get_mandatory_value("logging", "remote_base_log_folder"),
            conf.getboolean("logging", "delete_local_logs"),
            conf.get("logging", "remote_log_conn_id", fallback=None) or DEFAULT_CONN_ID,
            **handler_arguments()[1],
        )

    def run_bucket(self, dag_id: str, run_id: str) -> str:
        """Return the id of the bucket with the logs of a DAG run."""
        return self._storage().run_bucket(f"{dag_id}/{run_id}")

    def upload(self, path: str | os.PathLike[str], ti: Any = None) -> None:
        """
        Store the lines of a local log that are not stored yet. Never raises.

        :param path: the log file, absolute or below ``base_log_folder``
        :param ti: its task instance; None for a log of a callback
        """
        try:
            from airflow_provider_mictlanx.client.errors import ValidationError
            from airflow_provider_mictlanx.log.storage import LocalState

            base = self.base_log_folder.resolve()
            local = (base / path).resolve()
            if not local.is_relative_to(base):
                raise ValidationError(f"the log must be below base_log_folder, {base}")
            file = local.relative_to(base).as_posix()
            if not local.is_file():
                return
            timeout = RETRY_PATIENCE if self._failed_lately() else self.upload_timeout
            stored = self._storage().upload(_run_of(file, ti), file, local, rf=self.rf, timeout=timeout)
            # Not removed: another process may have opened it to continue the log, and its lines would be lost.
            if self.delete_local_copy and local.stat().st_size == stored:
                os.truncate(local, 0)
                LocalState.path(local).unlink(missing_ok=True)  # the next lines may be the same again
        except Exception as error:
            if not self._failed_lately():  # so that one upload in a minute has the complete time
                self._failed_at = time.monotonic()
            _report(
                f"Uploading the log {path} to mictlanx://{self.base_bucket} failed; it stays on this machine", error
            )

    def stream(self, relative_path: str, ti: Any) -> tuple[list[str], list[Iterator[str]]]:
        """
        Return the URL and the lines of each stored log of a task's attempt: its own, and those of its triggers.

        Lines are read while the caller takes them, a few megabytes at a time. Never raises: a problem is described in
        the list of URLs, and a later one in a line.

        :param relative_path: path of the log below ``base_log_folder``
        :param ti: the task instance
        """
        try:
            storage, run = self._storage(), _run_of(relative_path, ti)
            bucket = f"mictlanx://{storage.run_bucket(run)}"
            files, missing_peers = storage.list_files(run, relative_path)
        except Exception as error:
            return [_report(f"Reading the log {relative_path} from mictlanx://{self.base_bucket} failed", error)], []
        sources = [f"{bucket}/{file}" for file in files] or [f"No log {relative_path} is stored in {bucket}"]
        if missing_peers:
            sources.append(f"Lines may be missing, because peers do not answer: {', '.join(missing_peers)}")
        return sources, [_lines(storage, spans) for spans in files.values()]

    def read(self, relative_path: str, ti: Any) -> tuple[list[str], list[str] | None]:
        """Return the URLs and the complete texts of ``stream``, which Airflow prefers. Never raises."""
        sources, streams = self.stream(relative_path, ti)
        return sources, ["\n".join(lines) for lines in streams] or None

    def delete_runs(self, older_than: timedelta | datetime | str) -> dict[str, int]:
        """
        Delete the logs of DAG runs in which nothing has been logged for some time.

        Returns ``{deleted, kept, objects}``: the number of runs with deleted and with kept logs, and of the deleted
        objects. Raises a ``MictlanXError`` if a bucket can't be listed or emptied; a repeated call continues.

        :param older_than: time since the last upload of a log of the run, by the storage's clocks; or a point in time.
            Parameters: see ``batches.delete.cutoff``
        """
        return self._storage().delete_runs(older_than)

    def _failed_lately(self) -> bool:
        return time.monotonic() < self._failed_at + FAILURE_LASTS

    def _storage(self) -> LogStorage:
        from airflow_provider_mictlanx.log.storage import LogStorage

        return LogStorage(self.mictlanx_conn_id, self.base_bucket)


def _run_of(file: str, ti: Any) -> str:
    """Return the run of a log: ``{dag_id}/{run_id}``, or without a task instance the folder of the log."""
    return file.rpartition("/")[0] or file if ti is None else f"{ti.dag_id}/{ti.run_id}"


def handler_arguments() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ``[logging] remote_task_handler_kwargs``: those of Airflow's log handler, and those of ours."""
    from airflow.configuration import conf
    from airflow.utils.log.file_task_handler import FileTaskHandler

    given = conf.getjson("logging", "remote_task_handler_kwargs", fallback={})
    if not isinstance(given, dict):
        raise ValueError(f"[logging] remote_task_handler_kwargs must be a JSON object, got {given!r}")
    airflows = inspect.signature(FileTaskHandler.__init__).parameters
    return (
        {name: value for name, value in given.items() if name in airflows},
        {name: value for name, value in given.items() if name not in airflows},
    )


def _lines(storage: LogStorage, spans: list[Span]) -> Iterator[str]:
    """Yield the lines of a log, without line ends; an error is the last line."""
    try:
        for line in storage.lines(spans):
            yield line.removesuffix(b"\n").decode("utf-8", "replace")
    except Exception as error:
        yield _report("The rest of the log could not be read; load it again", error)


def _report(problem: str, error: Exception) -> str:
    """Log a problem, and return the line; a traceback is logged only for unexpected errors."""
    from airflow_provider_mictlanx.client.errors import MictlanXError
    from airflow_provider_mictlanx.client.texts import get_logger

    line = f"{problem}: {type(error).__name__}: {error}"
    get_logger(__name__).error("%s", line, exc_info=not isinstance(error, MictlanXError | OSError))
    return line
