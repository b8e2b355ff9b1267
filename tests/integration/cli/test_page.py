"""The shell's commands in the pages run, in their order, and print what the page shows, apart from the numbers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.pages import console_examples, matches
from tests.support.shell import Ran, shell_of
from tests.support.vss import LocalVSS

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "shell.md"


def printed(ran: Ran) -> list[str]:
    code = [f"exit code {ran.code}"] if ran.code else []
    return [*ran.out.splitlines(), *ran.err.splitlines(), *code]


@pytest.mark.parametrize("page", ["shell.md", "tutorial.md", "dag-bundles.md"])
def test_commands_of_the_page_print_what_it_shows(
    page: str,
    own_vss: Callable[..., LocalVSS],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.csv").write_text("day,objects\n")
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / "photos" / name).write_bytes(name.encode() * 20_000)
    (tmp_path / "dags").mkdir()
    for name in ("daily.py", "nightly.py"):
        (tmp_path / "dags" / name).write_text("# a DAG")
    monkeypatch.setenv("MICTLANX_URI", own_vss().uri)
    shell = shell_of(capfd)
    wrong = []
    for command, shown in console_examples(DOCS / page):
        words = shlex.split(command)
        if words[0] == "export":  # of the ports that the page names
            continue
        assert words[0] == "mictlanx"
        if not matches(shown, lines := printed(shell(*words[1:]))):
            wrong.append("\n".join([f"$ {command}", *lines]))
    assert not wrong, "the page should show:\n" + "\n".join(wrong)


def test_page_names_every_command_and_exit_code() -> None:
    from airflow_provider_mictlanx.cli.definition import COMMANDS, EXIT_CODES

    page = PAGE.read_text(encoding="utf-8")
    assert {command.name for command in COMMANDS} <= {shlex.split(command)[1] for command, _ in console_examples(PAGE)}
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE))
    assert rows == {str(code): meaning.replace("| head", r"`\| head`") for code, meaning in EXIT_CODES.items()}
