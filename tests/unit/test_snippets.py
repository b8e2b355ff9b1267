"""Every snippet of the README and the pages is quoted from an example DAG, run by a test, or listed here with a reason."""

from __future__ import annotations

import re
import shlex
import subprocess
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

OTHERS = {
    'README.md: pip install . "apache': "make test-dist installs the wheel into clean environments",
    "README.md: python3 -m venv": "make test-dist installs the wheel into clean environments",
    "README.md: mictlanx-local-vss": "tests/integration/local_vss/test_command.py",
    "README.md: mkdir -p ~/airflow": "tests/unit/test_package.py",
    "README.md: export AIRFLOW_CONN": "tests/unit/test_package.py",
    "bulks.md: TriggerDagRunOperator(": "test_fragments_of_bulks_build_tasks",
    "bulks.md: ready = BulkCompleteSensor(task_id": "test_fragments_of_bulks_build_tasks",
    "bulks.md: MictlanXBulkPutOperator.partial(": "test_fragments_of_bulks_build_tasks",
    "connection.md: export AIRFLOW_CONN": "tests/unit/hooks/test_connection.py",
    "connection.md: airflow connections add": "test_connection_of_the_command_line_is_understood",
    "dag-bundles.md: $ mictlanx publish": "shell.md has the same command",
    "development.md: make matrix": ".ci/run runs one version, a developer the others",
    "local-vss.md: $ pip install": "tests/integration/local_vss/test_command.py starts the same command",
    "local-vss.md: $ curl": "tests/integration/local_vss/test_page.py",
    "local-vss.md: $ sqlite3": "tests/integration/local_vss/test_page.py",
    "local-vss.md: from pathlib": "tests/integration/local_vss/test_page.py",
    "logs.md: [logging]": "tests/integration/log/test_config.py",
    "logs.md: echo": "test_bucket_of_a_run_as_the_page_computes_it",
    "performance.md: $ python -X importtime": "a measurement; tests/unit/test_imports.py checks what is imported",
    "testing-dags.md: $ pip install": "make test-example-project installs the wheel into clean environments",
    "testing-dags.md: [tool.pytest": "tests/unit/test_examples.py",
    "testing-dags.md: name: tests": "make test-example-project runs its two commands",
    "testing-dags.md: apache-airflow==": "tests/unit/test_examples.py",
    "tutorial.md: python3 -m venv": "make test-dist installs the wheel into clean environments",
    "tutorial.md: mictlanx-local-vss": "tests/integration/local_vss/test_command.py",
    "tutorial.md: export AIRFLOW_HOME": "test_tutorial_copies_the_example",
    "tutorial.md: airflow standalone": "a complete Airflow; tests/e2e/distributed/test_nightly_dag.py runs the same DAG in one",
    "tutorial.md: mictlanx ls": "the console commands of the page, which run",
}
"""Beginnings of the other snippets, and the test that runs them, or why none does."""


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
    tests = [text.split()[0] for text in (*PAGES_THAT_RUN.values(), *OTHERS.values()) if text.startswith("tests/")]
    assert [test for test in tests if not (ROOT / test).is_file()] == []
    own = [text for text in OTHERS.values() if text.startswith("test_")]
    assert set(own) <= set(globals())


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
    starts = [start for start, test in OTHERS.items() if test == "test_fragments_of_bulks_build_tasks"]
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


def test_tutorial_copies_the_example(tmp_path: Path) -> None:
    (tmp_path / "example_dags").symlink_to(ROOT / "example_dags")
    subprocess.run(["bash", "-ec", find("tutorial.md: export AIRFLOW_HOME")], cwd=tmp_path, check=True)
    copied = (tmp_path / "airflow-home" / "dags" / "nightly.py").read_text(encoding="utf-8")
    assert f'source="{tmp_path}/photos"' in copied
    assert f'output_path="{tmp_path}/out"' in copied
