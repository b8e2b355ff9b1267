"""Every snippet of the README and the pages is quoted from an example DAG, or run by a test that is named here."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
QUOTES = "\n".join(textwrap.dedent(file.read_text(encoding="utf-8")) for file in (ROOT / "example_dags").glob("*.py"))

PAGES_THAT_RUN = {
    ("client.md", "python"): "tests/integration/client/test_docs.py",
    ("testing-dags.md", "python"): "tests/unit/test_examples.py",
    ("dag-bundles.md", "json"): "tests/e2e/distributed/test_dag_bundle.py",
    ("dag-bundles.md", "python"): "tests/integration/bundles/test_mictlanx.py",
    ("from-the-official-client.md", "python"): "tests/integration/client/test_docs.py",
    ("shell.md", "console"): "tests/integration/cli/test_page.py",
    ("tutorial.md", "console"): "tests/integration/cli/test_page.py",
    ("works-with.md", "ini"): "tests/integration/fs/test_works_with_page.py",
    ("works-with.md", "python"): "tests/integration/fs/test_works_with_page.py",
}
"""Pages and languages whose snippets one test runs, all of them."""

README = "tests/e2e/first_steps/test_first_steps.py::test_readme_leads_to_runs_on_two_dates"
TUTORIAL = "tests/e2e/first_steps/test_first_steps.py::test_tutorial_leads_through_a_changed_file_and_an_outage"
OTHERS = {
    'README.md: pip install . "apache': README,
    "README.md: python3 -m venv": README,
    "README.md: mictlanx-local-vss": README,
    "README.md: mkdir -p ~/airflow": README,
    "README.md: export AIRFLOW_CONN": README,
    "bulks.md: TriggerDagRunOperator(": "tests/unit/test_snippets.py::test_fragments_of_bulks_build_tasks",
    "bulks.md: ready = BulkCompleteSensor(task_id": "tests/unit/test_snippets.py::test_fragments_of_bulks_build_tasks",
    "bulks.md: MictlanXBulkPutOperator.partial(": "tests/unit/test_snippets.py::test_fragments_of_bulks_build_tasks",
    "connection.md: export AIRFLOW_CONN": (
        "tests/unit/hooks/test_connection.py::test_examples_of_the_documentation_are_understood"
    ),
    "connection.md: airflow connections add": README,
    "dag-bundles.md: $ mictlanx publish": (
        "tests/integration/cli/test_page.py::test_commands_of_the_page_print_what_it_shows"
    ),
    "development.md: make matrix": "tests/e2e/packaging/test_builds.py::test_commands_of_the_matrix_select_sessions",
    "local-vss.md: $ pip install": TUTORIAL,
    "local-vss.md: $ curl": "tests/integration/local_vss/test_page.py::test_faults_are_switched_with_curl",
    "local-vss.md: $ sqlite3": "tests/integration/local_vss/test_page.py::test_replicas_are_found_with_sqlite",
    "local-vss.md: from pathlib": "tests/integration/local_vss/test_page.py::test_snippet_of_the_page_runs",
    "logs.md: [logging]": "tests/integration/log/test_config.py::test_config_has_remote_logs_by_the_options",
    "logs.md: echo": "tests/unit/test_snippets.py::test_bucket_of_a_run_as_the_page_computes_it",
    "performance.md: $ python -X importtime": "tests/unit/test_snippets.py::test_import_times_are_listed",
    "testing-dags.md: $ pip install": "noxfile.py::example_project",
    "testing-dags.md: [tool.pytest": "noxfile.py::example_project",
    "testing-dags.md: name: tests": "noxfile.py::example_project",
    "testing-dags.md: apache-airflow==": "noxfile.py::example_project",
    "tutorial.md: python3 -m venv": TUTORIAL,
    "tutorial.md: mictlanx-local-vss": TUTORIAL,
    "tutorial.md: export AIRFLOW_HOME": TUTORIAL,
    "tutorial.md: airflow standalone": TUTORIAL,
    "tutorial.md: . ~/mictlanx-airflow": TUTORIAL,
}
"""Beginnings of the other snippets, and the function that runs them."""


class Snippet(NamedTuple):
    """A fenced block with a language."""

    page: Path
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.name}: {self.code.splitlines()[0]}"


def snippets() -> list[Snippet]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [
        Snippet(page, language, code.strip("\n"))
        for page in pages
        for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    ]


def is_quoted(code: str) -> bool:
    """Return whether the lines of a snippet stand together in an example DAG, at any indentation."""
    lines = r"\n\s*".join(re.escape(line.strip()) for line in code.splitlines() if line.strip())
    return re.search(lines.replace(r"\n\s*", r"\s*\n\s*"), QUOTES) is not None


def test_every_snippet_is_run_by_a_test() -> None:
    unknown = [
        str(snippet)
        for snippet in snippets()
        if (snippet.page.name, snippet.language) not in PAGES_THAT_RUN
        and not any(str(snippet).startswith(start) for start in OTHERS)
        and not is_quoted(snippet.code)
    ]
    assert unknown == [], "quote an example DAG, or run them in a test and name it in this file"


def test_lists_of_snippets_are_not_outdated() -> None:
    found = snippets()
    assert set(PAGES_THAT_RUN) <= {(snippet.page.name, snippet.language) for snippet in found}
    assert [start for start in OTHERS if not any(str(snippet).startswith(start) for snippet in found)] == []
    assert [test for test in PAGES_THAT_RUN.values() if not (ROOT / test).is_file()] == []
    functions = [test.split("::") for test in OTHERS.values()]
    assert [name for file, name in functions if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")] == []


def find(start: str) -> str:
    (code,) = {snippet.code for snippet in snippets() if str(snippet).startswith(start)}
    return code


def test_fragments_of_bulks_build_tasks() -> None:
    from airflow.providers.common.compat.sdk import DAG

    try:
        from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
    except ImportError:  # Airflow 2
        from airflow.operators.trigger_dagrun import TriggerDagRunOperator

    from airflow_provider_mictlanx.operators.mictlanx import MictlanXBulkPutOperator
    from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor

    names = {kind.__name__: kind for kind in (TriggerDagRunOperator, MictlanXBulkPutOperator, BulkCompleteSensor)}
    starts = [start for start, test in OTHERS.items() if test.endswith("::test_fragments_of_bulks_build_tasks")]
    with DAG("fragments", schedule=None) as dag:
        for start in starts:
            exec(find(start), dict(names))
    assert sorted(dag.task_ids) == ["ready", "start_reader", "upload"]


def test_connection_of_the_command_line_is_understood() -> None:
    from airflow.models import Connection

    from airflow_provider_mictlanx.hooks.connection import parse_connection

    *command, conn_id = (words := shlex.split(find("connection.md: airflow connections add")))[:4]
    assert command == ["airflow", "connections", "add"]
    options = {name.removeprefix("--conn-"): value for name, value in zip(words[4::2], words[5::2], strict=True)}
    connection = Connection(conn_id, options.pop("type"), port=int(options.pop("port")), **options)
    uri = parse_connection(connection, connection.extra_dejson).uri
    assert str(uri).startswith("mictlanx://router-0@127.0.0.1:60666/?protocol=http")


def test_bucket_of_a_run_as_the_page_computes_it() -> None:
    from airflow_provider_mictlanx.log.mictlanx import MictlanXRemoteLogIO

    logs = MictlanXRemoteLogIO("logs", "mictlanx://airflow-logs")
    printed = subprocess.run(["bash", "-c", find("logs.md: echo")], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == logs.run_bucket("my_dag", "manual__2026-05-01T00:00:00+00:00")


def test_import_times_are_listed() -> None:
    _, _, command = find("performance.md: $ python -X importtime").partition("$ ")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    listed = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=True).stdout
    assert listed.splitlines()[-1].endswith("airflow_provider_mictlanx.operators.mictlanx")
