"""The plugin that every process of Airflow imports: what it imports, and what it adds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from airflow_provider_mictlanx.links.page import HAS_PAGE
from airflow_provider_mictlanx.plugins.mictlanx import MictlanXPlugin

SCRIPT = """
import json, sys
import airflow.plugins_manager
import airflow_provider_mictlanx
from airflow.providers.common.compat.sdk import conf
before = set(sys.modules)
import airflow_provider_mictlanx.plugins.mictlanx
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.mark.skipif(not HAS_PAGE, reason="in Airflow 2 the module imports the filesystem")
def test_plugin_imports_no_library_and_no_client() -> None:
    answer = subprocess.run([sys.executable, "-c", SCRIPT], check=True, stdout=subprocess.PIPE, text=True)
    ours = ["links", "links.page", "plugins", "plugins.mictlanx"]
    assert json.loads(answer.stdout.splitlines()[-1]) == [f"airflow_provider_mictlanx.{name}" for name in ours]


def test_plugin_adds_a_page_to_the_menu_browse_only() -> None:
    pages = getattr(MictlanXPlugin, "react_apps", [])
    assert [page["destination"] for page in pages] == ["nav"] * HAS_PAGE
    assert [page["category"] for page in pages] == ["browse"] * HAS_PAGE
    assert [app["url_prefix"] for app in getattr(MictlanXPlugin, "fastapi_apps", [])] == ["/mictlanx"] * HAS_PAGE
