"""The example DAG as a whole, and the demo around it, in processes of their own, against the local VSS."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from airflow_provider_mictlanx.links.page import HAS_PAGE
from tests.e2e.system.conftest import FILES, ROOT
from tests.support.dag_runs import balls_in, run_dag, shown_link, xcoms
from tests.support.vss import LocalVSS

DATABASE = f"airflow-{version('apache-airflow')}.db"


def processes_with(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:  # ended meanwhile
                continue
            if text.encode() in command:
                found.append(int(entry.name))
    return found


def test_files_go_up_come_back_and_are_cleaned_up(
    environment: dict[str, str], tmp_path: Path, source: Path, vss: LocalVSS
) -> None:
    status, report = run_dag(
        environment, tmp_path, "example_mictlanx", source=str(source), target=str(tmp_path / "copies")
    )

    assert Counter(task["state"] for task in report["tasks"]) == {"success": 5 + 4 * len(FILES)}, report
    assert (status, report["state"]) == (0, "success")
    expected = [
        (key, len(FILES[key]), hashlib.sha256(FILES[key]).hexdigest())
        for key in (file.relative_to(source).as_posix() for file in sorted(source.rglob("*")) if file.is_file())
    ]
    puts, gets = xcoms(report, "put_file"), xcoms(report, "get_file")
    bucket_id = xcoms(report, "name_bucket")[0]
    assert [(put["key"], put["size"], put["checksum"]) for put in puts] == expected
    assert [(same["key"], same["size"], same["checksum"]) for same in xcoms(report, "compare")] == expected
    assert [got["path"] for got in gets] == [str(tmp_path / "copies" / str(bucket_id) / key) for key, *_ in expected]
    assert all(put["uploaded"] and put["bucket_id"] == bucket_id and put["replicas"] == 1 for put in puts)
    assert xcoms(report, "delete_text")[0]["n_deletes"] >= 1
    assert xcoms(report, "delete_bucket")[0]["failed"] == 0
    link = shown_link(environment, "example_mictlanx", "put_text", "MictlanX object")
    page = f"/plugin/mictlanx?connection=mictlanx_default&bucket={bucket_id}&key="
    assert link.startswith(page if HAS_PAGE else f"{vss.api()}/buckets/{bucket_id}/metadata/")
    assert balls_in(vss, str(bucket_id)) == []
    assert [path for path in (tmp_path / "copies").rglob("*") if path.is_file()] == []


def test_failure_is_told_and_cleaned_up(environment: dict[str, str], tmp_path: Path, vss: LocalVSS) -> None:
    status, report = run_dag(environment, tmp_path, "example_mictlanx", source=str(tmp_path / "nowhere"))

    assert (status, report["state"]) == (1, "failed")
    errors = {task["task_id"]: task["error"] for task in report["tasks"] if task["state"] == "failed"}
    assert errors == {"list_files": f"FileNotFoundError: source must contain a file, got {str(tmp_path / 'nowhere')!r}"}
    assert xcoms(report, "put_text")[0]["uploaded"] is True
    assert balls_in(vss, str(xcoms(report, "name_bucket")[0])) == []


class TestDemo:
    """``scripts/demo.py``; that it works as a whole is seen by whoever types ``make demo``."""

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "scripts" / "demo.py"), *arguments]
        return subprocess.Popen(
            command, env=os.environ | more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @pytest.mark.demo
    def test_verifies_and_leaves_nothing(self, database: Path, tmp_path: Path, source: Path) -> None:
        work = tmp_path / "work"
        work.mkdir()
        shutil.copy(database, work / DATABASE)
        settings = {"AIRFLOW_HOME": "/nonexistent", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "nonsense://"}
        output, errors = self.start(str(source), "--work", str(work), **settings).communicate(timeout=240)
        assert "Verified  5 of 5" in output, output + errors
        if not version("apache-airflow").startswith("2."):  # whose parts scripts/running_airflow.py can't start
            assert "the gate waits in the triggerer" in output
            assert "the gate opened: 5 of 5 stored" in output
        assert re.search(r"^ +\d+ s  \d+ of \d+ tasks done, .+ stored", output, re.MULTILINE), output
        assert errors == ""
        assert [path.name for path in work.iterdir()] == [DATABASE]
        assert processes_with(str(work)) == []

    @pytest.mark.demo
    @pytest.mark.skipif(not HAS_PAGE, reason="this Airflow has no such page")
    def test_open_stays_until_ctrl_c(self, database: Path, tmp_path: Path, source: Path) -> None:
        work = tmp_path / "work"
        work.mkdir()
        shutil.copy(database, work / DATABASE)
        source = source.rename(tmp_path / 'it\'s ["odd"] 😀')
        demo = self.start("--open", str(source), "--work", str(work))
        assert demo.stdout is not None
        lines: dict[str, list[str]] = {}
        for line in demo.stdout:
            word, *others = line.split() or [""]
            lines[word] = others
            if word == "Ctrl-C":
                break
        try:
            base, page = lines["Open"][-4], lines["Open"][0]
            user = {"username": lines["Log"][2], "password": lines["Log"][-1]}
            with httpx.Client(base_url=base, trust_env=False, timeout=60, verify=False) as client:
                assert client.get(page).status_code == 200
                token = client.post("/auth/token", json=user).raise_for_status().json()["access_token"]
                bulks = client.get("/mictlanx/bulks", headers={"Authorization": f"Bearer {token}"}).json()
        finally:
            demo.send_signal(signal.SIGINT)
            output, errors = demo.communicate(timeout=60)
        opened = [bulk for bulk in bulks if bulk["bulk_id"].startswith("nightly-manual__")]
        assert [(bulk["verdict"], bulk["acknowledged"]) for bulk in opened] == [("complete", len(FILES))]
        assert (demo.returncode, errors) == (0, "")
        assert "Everything is stopped" in output
        assert output.strip().endswith(f"Left in {work}: {DATABASE}")
        assert [path.name for path in work.iterdir()] == [DATABASE]
        assert processes_with(str(work)) == []

    @pytest.mark.demo
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_stops_everything_when_interrupted(self, number: int, database: Path, tmp_path: Path, source: Path) -> None:
        work = tmp_path / "work"
        work.mkdir()
        shutil.copy(database, work / DATABASE)
        demo = self.start(str(source), "--work", str(work))
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("DAG run"):
                break
        deadline = time.monotonic() + 30
        while len(processes_with(str(work))) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(processes_with(str(work))) >= 3  # the demo, the local VSS, the DAG run
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=60)
        if number == signal.SIGKILL:  # its files stay
            deadline = time.monotonic() + 30
            while processes_with(str(work)) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert processes_with(str(work)) == []
            return
        assert demo.returncode == 130
        assert "nothing was left running" in errors
        assert processes_with(str(work)) == []
        assert [path.name for path in work.iterdir()] == [DATABASE]

    @pytest.mark.demo
    def test_failing_run_names_the_reason_and_the_log(self, database: Path, tmp_path: Path, source: Path) -> None:
        work = tmp_path / "work"
        work.mkdir()
        (work / DATABASE).write_bytes(b"no database")
        demo = self.start(str(source), "--work", str(work))
        _, errors = demo.communicate(timeout=240)
        assert demo.returncode == 1
        assert "The demo failed: " in errors
        assert "file is not a database" in errors
        log = Path(errors.rpartition("Log file: ")[2].strip())
        assert "Traceback" in log.read_text()
        assert processes_with(str(work)) == []

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("nowhere", "an existing file or folder, got"),
            ("empty", "at least one file, got the folder"),
            (".", "got"),  # whose files change during the demo: its own are among them
        ],
    )
    def test_useless_source(self, name: str, reason: str, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        demo = self.start(str(tmp_path / name), "--work", str(tmp_path / "work"))
        output, errors = demo.communicate(timeout=60)
        assert demo.returncode == 1
        assert "SOURCE must" in errors
        assert f"{reason} {tmp_path / name}\n" in errors
        assert output == ""
        assert not (tmp_path / "work").exists()
