"""The example DAGs and the pages go together: what is quoted is what runs, and everything that users import is in it."""

from __future__ import annotations

import inspect
import re
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.public_names import OPERATORS, SENSORS, TRIGGERS, hook_methods

ROOT = Path(__file__).parents[2]
EXAMPLES = {file.name: file.read_text() for file in (ROOT / "example_dags").glob("*.py")}
README = (ROOT / "README.md").read_text()
PAGES = "\n".join([README, *(page.read_text() for page in (ROOT / "docs").glob("*.md"))])
PACKAGE = "\n".join(module.read_text() for module in (ROOT / "airflow_provider_mictlanx").rglob("*.py"))
TESTS = "\n".join(test.read_text() for test in (ROOT / "tests" / "e2e").glob("*/test_*.py"))


def blocks() -> dict[str, str]:
    """Return the text between the markers, by name."""
    return {
        name: textwrap.dedent(body).strip("\n")
        for text in EXAMPLES.values()
        for name, body in re.findall(r"# \[START (\w+)\]\n(.*?)\n *# \[END \1\]", text, re.DOTALL)
    }


def test_markers_come_in_pairs() -> None:
    starts, ends = (re.findall(rf"\[{which} (\w+)\]", "\n".join(EXAMPLES.values())) for which in ("START", "END"))
    assert sorted(starts) == sorted(ends) == sorted(blocks())


@pytest.mark.parametrize("name", blocks())
def test_block_is_quoted_in_a_page(name: str) -> None:
    assert f"```python\n{blocks()[name]}\n" in PAGES or f"\n{blocks()[name]}\n" in PAGES


def test_page_on_testing_quotes_the_example_project() -> None:
    """The tests of that project run by ``make test-example-project``."""
    page = (ROOT / "docs" / "testing-dags.md").read_text()
    files = [file for file in (ROOT / "tests" / "e2e" / "example_project").rglob("*") if file.suffix != ".pyc"]
    project = [file.read_text() for file in files if file.is_file()]
    quoted = re.findall(r"^```(?!console)\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(quoted) > 10
    assert [block for block in quoted if not any(block in text for text in project)] == []


def test_dag_of_the_readme_is_the_one_that_runs() -> None:
    (quoted,) = re.findall(r"```python\n([^`]*with DAG\([^`]*)\n```", README)
    assert quoted == blocks()["howto_mictlanx_nightly"]


def test_bulk_ids_contain_the_run() -> None:
    """A date is not enough: a scheduled and a manual run may have the same one, and others have none."""
    texts = "\n".join([PAGES, PACKAGE, *EXAMPLES.values()])
    ids = re.findall(r"""bulk_?id *= *(f?["'].*?["'])""", texts, re.IGNORECASE)
    assert len(ids) >= 8
    assert [found for found in ids if "run" not in found] == []


@pytest.mark.parametrize("logical_date", [None, datetime(2026, 1, 2, tzinfo=UTC)])
def test_key_prefix_per_day_renders_without_a_logical_date(logical_date: datetime | None) -> None:
    from airflow.providers.common.compat.sdk import DAG

    (prefix,) = re.findall(r"`(\{\{ \(dag_run[^`]*)`", PAGES)
    with DAG("any", schedule=None) as dag:
        template = dag.get_template_env().from_string(prefix.replace("\\|", "|"))
    run = SimpleNamespace(logical_date=logical_date, run_after=datetime(2026, 1, 2, 3, tzinfo=UTC))
    assert template.render(dag_run=run) == "2026-01-02/"


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_run_by_a_test_and_named_in_a_page(name: str) -> None:
    assert f'"{name.removesuffix(".py")}"' in TESTS
    assert name in PAGES


@pytest.mark.parametrize("name", [kind.__name__ for kind in (*OPERATORS, *SENSORS)])
def test_class_has_a_section_and_an_example(name: str) -> None:
    assert f"## {name}" in PAGES or f"### {name}" in PAGES or f"`{name}`" in PAGES
    assert any(f"{name}(" in block or f"{name}.partial(" in block for block in blocks().values())


@pytest.mark.parametrize("name", sorted(hook_methods()))
def test_method_of_the_hook_has_an_example(name: str) -> None:
    """Blocking ones and those that are awaited: each is called in a block that a page quotes, of a DAG that a test runs."""
    assert any(re.search(rf"\bhook\.{name}\b", block) for block in blocks().values())


def test_every_trigger_is_that_of_a_class_with_an_example() -> None:
    """Nobody makes them by hand."""
    made = "".join(inspect.getsource(kind) for kind in (*OPERATORS, *SENSORS))
    named = re.findall(r"trigger(?:_class)? ?= ?(\w+)", made)
    assert {kind.__name__ for kind in TRIGGERS} - set(named) == set()
