"""The connection form of Airflow 2, by its own web application and database: a connection that is saved as it is stays as it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.system.conftest import ROOT, airflow_environment

pytestmark = pytest.mark.skipif(not version("apache-airflow").startswith("2."), reason="the form of Airflow 2")

ROUTERS = ["http://127.0.0.1:60666", "mictlanx://router-0@127.0.0.1:60667/?protocol=http"]
EVERYTHING: dict[str, Any] = {
    "routers": ROUTERS,
    "protocol": "http",
    "verify": True,
    "ca_file": "/etc/ssl/ca.pem",
    "client_cert": "/etc/ssl/me.pem",
    "client_key": "/etc/ssl/me.key",
    "client_id": "someone",
    "timeout": 30,
    "chunk_size": "8MB",
    "max_concurrency": 4,
    "headers": {"X-Tenant": "genomics", "X-Number": "7"},
}
EXTRAS: dict[str, dict[str, Any]] = {
    "everything": EVERYTHING,
    "unset": {"routers": ROUTERS},
    "nothing": {},
    "off": {"routers": ROUTERS, "verify": False},
    "on": {"routers": ROUTERS, "verify": True},
    "numbers": {"routers": ROUTERS, "timeout": 2.5, "max_concurrency": 1},
    "not_of_the_form": {"uri": "mictlanx://router-0@127.0.0.1:60667/", "protocol": "http", "http2": False},
}
TEXTS = {
    "routers": "\n".join(ROUTERS),
    "verify": "false",
    "timeout": "30",
    "max_concurrency": "4",
    "headers": "X-Tenant: genomics",
}
"""Everything as text, as a person types it and as older connections hold it …"""

TYPED = {
    "routers": ROUTERS,
    "verify": False,
    "timeout": 30,
    "max_concurrency": 4,
    "headers": {"X-Tenant": "genomics"},
}
"""… and as it is stored by the form."""


@pytest.fixture(scope="module")
def saved(database: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Open all of them in the form, and save them as they are; make one that is typed."""
    home = tmp_path_factory.mktemp("form")
    shutil.copy(database, home / "airflow.db")
    given: dict[str, Any] = {
        name: {"conn_type": "mictlanx", "password": f"token of {name}", "extra": extra}
        for name, extra in {**EXTRAS, "texts": TEXTS}.items()
    }
    fields = {f"extra__mictlanx__{name}": text for name, text in TEXTS.items()}
    given["typed"] = {
        "typed": {"conn_id": "typed", "conn_type": "mictlanx", "password": "token of typed", **fields},
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.system.edit_connections"],
        input=json.dumps(given),
        env=airflow_environment(home),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    [told] = [line.removeprefix("FORM ") for line in done.stdout.splitlines() if line.startswith("FORM ")]
    found = json.loads(told)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", EXTRAS)
def test_saved_as_it_is(saved: dict[str, Any], name: str) -> None:
    stored = saved[name]["stored"]
    assert stored.pop("extra") == EXTRAS[name]
    assert stored.pop("id")
    assert stored.pop("password") == f"token of {name}"
    assert {field: value for field, value in stored.items() if value} == {"conn_type": "mictlanx"}


@pytest.mark.parametrize("name", ["texts", "typed"])
def test_what_is_typed_is_stored_in_its_type(saved: dict[str, Any], name: str) -> None:
    assert saved[name]["stored"]["extra"] == TYPED
    assert saved[name]["stored"]["password"] == f"token of {name}"


def test_what_is_shown(saved: dict[str, Any]) -> None:
    shown = {name: saved[name]["shown"] for name in EXTRAS}
    assert [shown[name]["extra__mictlanx__verify"] for name in ("unset", "off", "on")] == ["", "false", "true"]
    everything = {name.removeprefix("extra__mictlanx__"): text for name, text in shown["everything"].items()}
    assert set(EVERYTHING) <= set(everything)
    assert everything["routers"].split("\r\n") == ROUTERS
    assert everything["headers"] == "X-Tenant: genomics\r\nX-Number: 7"
    assert (everything["timeout"], everything["max_concurrency"]) == ("30", "4")
