"""The filesystem for Airflow's ``ObjectStoragePath``; Airflow reads ``schemes`` and ``get_fs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_mictlanx.fs.filesystem import PROTOCOL, MictlanXFileSystem

schemes = [PROTOCOL]


def get_fs(conn_id: str | None, storage_options: Mapping[str, Any] | None = None) -> MictlanXFileSystem:
    """
    Return the filesystem of a connection; without one, of ``mictlanx_default``.

    It never raises, and never reads the connection: Airflow 3.3.2 drops an error of this function, and then uses the
    default connection, which may be of another storage space.
    """
    options = dict(storage_options or {})
    if conn_id:
        options["conn_id"] = conn_id
    return MictlanXFileSystem(**options)
