"""A filesystem over the shared local VSS, and one over a VSS that may be told to fail."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from airflow_provider_mictlanx.fs.filesystem import MictlanXFileSystem
from airflow_provider_mictlanx.plugins import mictlanx  # noqa: F401 (registers the filesystem in Airflow 2)
from tests.support.vss import LocalVSS


@pytest.fixture
def fs(vss: LocalVSS) -> MictlanXFileSystem:
    return MictlanXFileSystem(uri=vss.uri)


@pytest.fixture
def conn_id(connect: Callable[..., None], vss: LocalVSS) -> str:
    """A connection that nobody else uses: Airflow keeps a filesystem for each in the process."""
    conn_id = f"conn_{uuid.uuid4().hex}"
    connect(vss, conn_id)
    return conn_id
