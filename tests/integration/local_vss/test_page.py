"""The commands and the test in the page of the local VSS run."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.vss import LocalVSS

PAGE = (Path(__file__).parents[3] / "docs" / "local-vss.md").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing")
def test_faults_are_switched_with_curl(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    commands = re.findall(r"^\$ (curl .*?)(?: +#.*)?$", PAGE, re.MULTILINE)
    active = []
    for command in commands:
        known = vss.faults()
        command = command.replace("60666", str(vss.port)).replace("0f3a…", known[0]["id"] if known else "")
        subprocess.run(["bash", "-c", f"{command} --silent --fail"], capture_output=True, check=True)
        active.append(len(vss.faults()))
    assert active == [1, 1, 0, 0]


def test_replicas_are_found_with_sqlite(own_vss: Callable[..., LocalVSS], connect: Callable[..., None]) -> None:
    vss = own_vss()
    connect(vss)
    MictlanXHook().put("frames", "report", b"12345")
    (query,) = re.findall(r'^\$ sqlite3 vss/metadata\.sqlite3 "(.*)"$', PAGE, re.MULTILINE)
    with closing(sqlite3.connect(f"file:{vss.data}/metadata.sqlite3?mode=ro", uri=True)) as database:
        ((_, key, size, blob),) = database.execute(query)
    assert (key, size) == ("report_0", 5)
    assert blob


def test_snippet_of_the_page_runs(
    connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(from pathlib.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {"talk": lambda vss: (connect(vss), MictlanXHook().put("frames", "report", b"12345"))}
    exec(code.replace("...  # talk to vss.uri", "talk(vss)"), names)
    assert capsys.readouterr().out.splitlines()[-1] == "1"
