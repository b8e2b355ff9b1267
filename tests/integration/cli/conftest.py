"""Fixtures of the shell: a command line for a URI, and one for a connection in Airflow's database."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest
from airflow.models.connection import Connection
from airflow.utils.session import create_session

from tests.support.shell import Shell, shell_of
from tests.support.vss import LocalVSS

TOKEN = "t0ken-of-a-connection"


@pytest.fixture
def shell(vss: LocalVSS, capfd: pytest.CaptureFixture[str]) -> Shell:
    """Run a command against the URI of the shared local VSS."""
    return shell_of(capfd, "--uri", vss.uri)


@pytest.fixture
def database_connection(vss: LocalVSS) -> Iterator[str]:
    """Store a connection in the database of this process, and return its id."""
    conn_id = f"shell_{uuid.uuid4().hex}"
    extra = json.dumps({"uri": vss.uri, "client_id": "of-the-connection", "chunk_size": "1kb"})
    with create_session() as session:
        table = Connection.__table__
        needed = [table, *(key.column.table for key in table.foreign_keys)]
        table.metadata.create_all(session.get_bind(), tables=needed)
        session.add(Connection(conn_id, "mictlanx", password=TOKEN, extra=extra))
    yield conn_id
    with create_session() as session:
        session.query(Connection).filter_by(conn_id=conn_id).delete()


@pytest.fixture(params=["uri", "connection"])
def any_shell(request: pytest.FixtureRequest, vss: LocalVSS, capfd: pytest.CaptureFixture[str]) -> Shell:
    """Run a command against the shared local VSS: by its URI, and by a connection in the database."""
    if request.param == "uri":
        return shell_of(capfd, "--uri", vss.uri)
    return shell_of(capfd, "--conn-id", request.getfixturevalue("database_connection"))
