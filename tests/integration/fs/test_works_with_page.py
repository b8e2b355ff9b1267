"""Every snippet of the page "Works with" runs, against a storage space behind the default connection."""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mictlanx.fs.filesystem import MictlanXFileSystem
from tests.support.vss import LocalVSS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "works-with.md"
SNIPPETS = re.findall(r"^## ([^\n]+)\n|^```(python|ini)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def snippets(language: str) -> list[Any]:
    """Return the snippets of a language, each with its heading as the test's id."""
    found, heading = [], ""
    for title, kind, code in SNIPPETS:
        heading = title or heading
        if kind == language:
            found.append(pytest.param(heading, code, id=f"{heading} {len(found)}"))
    return found


@pytest.fixture
def values(connected: LocalVSS, bucket_id: str, tmp_path: Path) -> Callable[[str], str]:
    """Replace what stands for the user's own buckets and folders."""
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")

    def fill(code: str) -> str:
        if ObjectStoragePath.__module__ == "airflow.io.path":
            code = code.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import")
        return (
            code.replace("frames", bucket_id).replace("/data/", f"{tmp_path}/").replace("=URI", f"={connected.uri!r}")
        )

    return fill


@pytest.mark.parametrize(("heading", "code"), snippets("python"))
def test_python_snippet_runs(heading: str, code: str, values: Callable[[str], str], bucket_id: str) -> None:
    for module in re.findall(r"^import (\w+)", code, re.MULTILINE):
        pytest.importorskip(module)
    code = values(code)
    namespace: dict[str, Any] = {}
    exec(compile(code, heading, "exec"), namespace)
    if heading == "FileTransferOperator":
        namespace["upload"].execute({})
        namespace["download"].execute({})
        assert Path(namespace["download"].dst.removeprefix("file://")).read_text() == "x,y\n1,2\n"


@pytest.mark.parametrize(("heading", "code"), snippets("ini"))
def test_configuration_names_what_exists(heading: str, code: str) -> None:
    """How XCom and the state store behave with such a configuration is tested in ``test_airflow.py``."""
    if heading == "State store" and ObjectStoragePath.__module__ == "airflow.io.path":
        pytest.skip("Airflow 2 has no state store")
    from airflow.providers.common.compat.sdk import conf

    parser = configparser.ConfigParser()
    parser.read_string(code)
    for section in parser.sections():
        for option, value in parser[section].items():
            assert conf.has_option(section, option) or section == "common.io", option
            if option.endswith("_backend"):
                assert resolve_name(value)
            if option.endswith("_path"):
                fs = ObjectStoragePath(value).fs
                assert isinstance(fs, MictlanXFileSystem)
                assert fs.conn_id == "mictlanx_default"


def test_every_tool_of_the_page_has_a_snippet() -> None:
    headings = {heading for heading, _, _ in SNIPPETS if heading}
    shown = {parameter.values[0] for language in ("python", "ini") for parameter in snippets(language)}
    assert headings - shown == {"How it behaves", "Known limits"}
