"""The pytest plugin: its fixtures, and what a run of pytest leaves behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.result import unwrap
from tests.support.vss import LocalVSS


@pytest.fixture(scope="module")
def mictlanx_vss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVSS]:
    """Replace the plugin's own one, which starts more slowly."""
    with LocalVSS(tmp_path_factory.mktemp("vss"), routers=2) as running:
        yield running


async def put_and_get(uri: str, data: bytes) -> bytes:
    async with AsyncClient(uri, "plugin", False, log_output_path=None) as client:
        unwrap(await client.put("bucket", "key", data))
        return bytes(unwrap(await client.get("bucket", "key")).data)


@pytest.mark.parametrize("data", [b"one", b"another"])
async def test_connection_leads_to_an_empty_storage(data: bytes, mictlanx_conn: str, mictlanx_vss: LocalVSS) -> None:
    """Each of the two tests leaves data, a fault and a stopped server to the other."""
    assert mictlanx_conn == "mictlanx_default"
    assert os.environ["AIRFLOW_CONN_MICTLANX_DEFAULT"] == mictlanx_vss.uri
    assert mictlanx_vss.faults() == []
    assert await put_and_get(mictlanx_vss.uri, data) == data
    mictlanx_vss.set_fault("peer_down", peer="peer-0")
    mictlanx_vss.stop()


async def test_clear_deletes_data_and_caches(mictlanx_conn: str, mictlanx_vss: LocalVSS) -> None:
    for data in (b"one", b"another"):  # nothing is overwritten, so the second is a conflict if the first was left
        assert await put_and_get(mictlanx_vss.uri, data) == data
        urls = [f"{mictlanx_vss.api(router)}/buckets/bucket/key_0" for router in range(2)]
        assert [httpx.get(url, trust_env=False).status_code for url in urls] == [200, 200]
        mictlanx_vss.set_fault("latency", seconds=0)
        mictlanx_vss.clear()
        assert mictlanx_vss.faults() == []
        assert [httpx.get(url, trust_env=False).status_code for url in urls] == [404, 404]
        assert list((mictlanx_vss.data / "peers").rglob("*/*")) == []


@pytest.mark.parametrize(
    ("kind", "parameters", "reason"),
    [
        ("peer silent", {}, "kind must be one of peer_down, .*, got 'peer silent'"),
        ("status", {"status": 3}, "failed with 422: status: .*200"),
        ("status", {"peeer": "peer-0"}, "failed with 422: peeer: Extra inputs are not permitted"),
    ],
)
def test_fault_that_does_not_exist_is_explained(
    kind: str, parameters: dict[str, object], reason: str, vss: LocalVSS
) -> None:
    with pytest.raises(ValueError, match=reason), vss.fault(kind, **parameters):
        pass


def run_pytest(folder: Path, test: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a test with this plugin alone, which starts three times as fast."""
    (folder / "test_user.py").write_text(test)
    (folder / "pytest.ini").touch()  # the folder may be below ours, whose settings need other plugins
    # Without a folder of its own, pytest deletes those of earlier runs when it ends: gigabytes.
    options = ["-q", "-s", "-p", "airflow_provider_mictlanx.testing", "--basetemp", str(folder / "temporary")]
    command = [sys.executable, "-m", "pytest", *options, "test_user.py"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_server_ends_when_pytest_is_killed(tmp_path: Path) -> None:
    (tmp_path / "cachetools.py").write_text("raise ImportError('the modules of the user came first')")
    test = (
        "import os, signal\n"
        "def test_user(mictlanx_vss):\n"
        "    print(f'PID {mictlanx_vss.process.pid}', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    ran = run_pytest(tmp_path, test)
    assert ran.returncode == -signal.SIGKILL, ran.stdout + ran.stderr
    pid = int(ran.stdout.partition("PID ")[2])
    deadline = time.monotonic() + 60
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # dead, but not yet fetched by whoever inherited it
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_missing_extra_is_named_when_a_fixture_is_used(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "uvicorn.py").write_text("raise ModuleNotFoundError(name='uvicorn')")
    test = "def test_other():\n    pass\ndef test_user(mictlanx_conn):\n    pass"
    ran = run_pytest(tmp_path, test, PYTHONPATH=str(modules))
    assert "1 passed, 1 error" in ran.stdout, ran.stdout + ran.stderr
    assert "uvicorn is missing; install it with: pip install 'airflow-provider-mictlanx[testing]'" in ran.stdout
