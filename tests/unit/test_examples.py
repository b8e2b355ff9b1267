"""The example DAGs and the pages go together: what is quoted is what runs, and everything that users import is in it."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = {file.name: file.read_text() for file in (ROOT / "example_dags").glob("*.py")}
PAGES = "\n".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
TESTS = "\n".join(test.read_text() for test in (ROOT / "tests" / "system").glob("test_*.py"))


def blocks() -> dict[str, str]:
    """Give what stands between the markers, by name."""
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


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_run_by_a_test_and_named_in_a_page(name: str) -> None:
    assert f'"{name.removesuffix(".py")}"' in TESTS
    assert name in PAGES


def classes(module: str, kind: str) -> list[str]:
    text = "".join(file.read_text() for file in (ROOT / "airflow_provider_mictlanx" / module).glob("*.py"))
    return [name for name in re.findall(r"^class (\w+)\(", text, re.MULTILINE) if name.endswith(kind)]


@pytest.mark.parametrize("name", [*classes("operators", "Operator"), *classes("sensors", "Sensor")])
def test_class_has_a_section_and_an_example(name: str) -> None:
    if name in ("MictlanXOperator", "MictlanXSensor"):
        return  # what the others have in common
    assert f"## {name}" in PAGES or f"### {name}" in PAGES or f"`{name}`" in PAGES
    assert any(f"{name}(" in block or f"{name}.partial(" in block for block in blocks().values())


def test_every_call_of_the_hook_has_an_example() -> None:
    text = "".join(file.read_text() for file in (ROOT / "airflow_provider_mictlanx" / "hooks").glob("*.py"))
    twins = set(re.findall(r"^    async def a(\w+)\(", text, re.MULTILINE))
    calls = {name for name in re.findall(r"^    def (\w+)\(", text, re.MULTILINE) if name in twins}
    assert {"put", "get_to_folder", "find_bulk"} <= calls
    quoted = "\n".join(blocks().values())
    assert {name for name in calls if f"hook.{name}(" not in quoted} == {"get_conn"} & calls
