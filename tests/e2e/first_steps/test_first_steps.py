"""
The README and the tutorial, followed literally: a fresh clone, an empty home folder, and terminals.

Their lines are typed as they are, and with the ports that they name. ``make test-first-steps`` runs these tests.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from scripts.running_airflow import AirflowAPI, environment_without
from tests.e2e.distributed.conftest import terminated_like_interrupted  # noqa: F401
from tests.support.addresses import taken_ports
from tests.support.airflow_runs import Run
from tests.support.pages import blocks, console_examples, matches
from tests.support.terminal import Terminal

pytestmark = pytest.mark.timeout(1800)  # pip installs Airflow, without a cache for the first time

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PORTS = (8080, 8793, 8794, 60666, 25000, 25001, 25002)
"""Of Airflow's API and log servers, the router and the peers."""
INSTALLATION = 900
"""Seconds for the download and installation of Airflow, on a busy machine."""

OpenTerminal = Callable[[], Terminal]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of one person: both pages install into the same environment in it."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def open_terminal(home: Path, tmp_path: Path) -> Iterator[OpenTerminal]:
    """Open terminals in a fresh clone of the last commit; everything in them ends with the test."""
    assert taken_ports(*PORTS) == [], "the pages need these ports"
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-tags", ROOT.as_uri(), str(clone)], check=True)
    environment = environment_without("AIRFLOW", "_AIRFLOW", "MICTLANX", "PYTHON", "VIRTUAL_ENV") | {
        "HOME": str(home),
        "PATH": f"{sys.base_prefix}/bin:{os.environ['PATH']}",  # python3 is that of these tests
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),  # for pip, as is the next one
        "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config")),
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "5",  # instead of five minutes
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # for a busy machine
    }
    with ExitStack() as terminals:
        yield lambda: terminals.enter_context(closing(Terminal(clone, environment)))


def activation(installation: str) -> str:
    (line,) = re.findall(r"^\. .*/bin/activate$", installation, re.MULTILINE)
    return str(line)


def log_in(terminal: Terminal, airflow_home: Path) -> AirflowAPI:
    """Log in with the password that ``airflow standalone`` printed."""
    (password,) = re.findall(r"Password for user 'admin': (\S+)", terminal.wait_for("Airflow is ready", 300))
    airflow = AirflowAPI("http://localhost:8080", airflow_home, "admin", password)
    airflow.wait_until_healthy()
    return airflow


def take_files(folder: Path, text: str) -> dict[str, bytes]:
    """Write the files anew, under the same names, and return their contents."""
    files = {name: f"{text} {name} ".encode() * 5_000 for name in ("a.jpg", "b.jpg", "c.jpg")}
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return files


def copies_below(folder: Path) -> dict[str, dict[str, bytes]]:
    """Return the files that each run read back, by its run id."""
    return {run.name: {file.name: file.read_bytes() for file in run.iterdir()} for run in folder.iterdir()}


def click(airflow: AirflowAPI) -> list[str]:
    """Trigger the DAG for the first time, which begins its scheduled run too; return the ids of the finished runs."""
    clicked = Run(airflow, "nightly")
    run_ids = airflow.wait_for("two runs", lambda: found if len(found := airflow.runs("nightly")) == 2 else None, 180)
    assert clicked.run_id in run_ids
    for run_id in run_ids:
        Run(airflow, "nightly", run_id).finish()
    return run_ids


def test_readme_leads_to_runs_on_two_dates(open_terminal: OpenTerminal, home: Path) -> None:
    install_beside, install, examples, storage, connect, start = blocks(ROOT / "README.md", "bash")
    terminal, second, third = open_terminal(), open_terminal(), open_terminal()
    terminal.run(install, INSTALLATION)
    terminal.run(install_beside, INSTALLATION)
    terminal.run(examples)
    second.run(activation(install))
    second.type(storage)
    second.wait_for(connect)
    terminal.run(connect)
    before = take_files(home / "files", "first")
    copies = home / "copies"
    terminal.type(start.replace("/your/folder", str(home / "files")).replace("/your/copies", str(copies)))
    airflow = log_in(terminal, home / "airflow")

    expected = dict.fromkeys(click(airflow), before)
    assert copies_below(copies) == expected
    after = take_files(home / "files", "second")
    other_date = Run(airflow, "nightly", airflow.trigger("nightly", {}, logical_date="2026-01-02T00:00:00Z"))
    other_date.finish()
    expected[other_date.run_id] = after
    assert copies_below(copies) == expected

    (add_connection,) = (block for block in blocks(DOCS / "connection.md", "bash") if "connections add" in block)
    third.run(activation(install))
    third.run(add_connection)
    listed = third.run("mictlanx --conn-id mictlanx_default ls -r frames")
    assert [f"{run_id}/{name}" for run_id in expected for name in after if f"{run_id}/{name}" not in listed] == []
    second.interrupt()


def test_tutorial_leads_through_a_changed_file_and_an_outage(open_terminal: OpenTerminal, tmp_path: Path) -> None:
    install, storage, prepare, start, listing = blocks(DOCS / "tutorial.md", "bash")
    (local_install, _), (local_storage, printed), *_ = console_examples(DOCS / "local-vss.md")
    first, second, third = open_terminal(), open_terminal(), open_terminal()
    first.run(install, INSTALLATION)
    first.run(local_install, INSTALLATION)
    first.type(local_storage)
    first.wait_for("\n".join(printed))
    folder = tmp_path / "clone"
    before = take_files(folder / "photos", "first")
    second.run(activation(install))
    for command, shown in console_examples(DOCS / "tutorial.md"):
        lines = [line for line in second.run(command).splitlines() if line]  # a progress line leaves an empty one
        assert matches(shown, lines), "\n".join([f"$ {command}", *lines])
    second.run(prepare)
    second.type(start)
    airflow = log_in(second, folder / "airflow-home")

    expected = dict.fromkeys(click(airflow), before)
    after = take_files(folder / "photos", "second")
    changed = Run(airflow, "nightly")
    changed.finish()
    expected[changed.run_id] = after
    assert copies_below(folder / "out") == expected
    listed = third.run(listing)
    assert [f"{run_id}/{name}" for run_id in expected for name in after if f"{run_id}/{name}" not in listed] == []

    first.interrupt()
    paused = Run(airflow, "nightly")
    airflow.wait_for(
        "an upload that waits",
        lambda: (
            paused.state_of("upload") == "running"
            and "waiting up to 20 s" in airflow.task_log("nightly", paused.run_id, "upload")
        ),
        120,
    )
    first.type(storage)
    paused.wait_for_success("upload")
    assert paused.task("upload")["try_number"] == 1
    paused.finish()
    assert copies_below(folder / "out") == {**expected, paused.run_id: after}
    first.interrupt()
