"""Every error class has a heading in ``docs/errors.md``: log lines link to it by the class's name in lower case."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import ModuleType

from airflow_provider_mictlanx.batches import runner
from airflow_provider_mictlanx.bulks import errors as bulk_errors
from airflow_provider_mictlanx.client import errors
from airflow_provider_mictlanx.client.errors import MictlanXError
from airflow_provider_mictlanx.hooks.errors import DOCUMENTATION, timeout_message

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")


def public_errors(module: ModuleType) -> set[str]:
    return {
        name
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, MictlanXError) and kind.__module__ == module.__name__
    }


def test_every_error_class_has_a_heading_and_none_is_left() -> None:
    classes = public_errors(errors) | public_errors(bulk_errors) | public_errors(runner)
    headings = re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)
    assert sorted(headings) == sorted(classes)


def test_every_error_has_a_message_a_meaning_and_advice() -> None:
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL))
    del sections["MictlanXError"]
    parts = ("```\n", "**Meaning.**", "**What to do.**")
    assert {name for name, text in sections.items() if any(part not in text for part in parts)} == set()


def test_log_lines_link_to_the_documentation_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["urls"]["Documentation"] == DOCUMENTATION
    assert timeout_message("late", "a").endswith(f"{DOCUMENTATION}errors.html#messages-of-airflow")
    assert "\n## Messages of Airflow\n" in PAGE
