"""``airflow mictlanx``: Airflow's parser has the same commands and arguments as the shell's own."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

import pytest
from airflow.cli.cli_config import ActionCommand

from airflow_provider_mictlanx.cli import main as shell
from airflow_provider_mictlanx.cli.airflow_commands import get_cli_commands
from airflow_provider_mictlanx.cli.definition import COMMANDS
from airflow_provider_mictlanx.get_provider_info import get_provider_info

(GROUP,) = get_cli_commands()
LINES = {
    "check": [],
    "ls": ["b", "p", "-r", "-o", "json"],
    "stat": ["b/k", "b/l", "--check"],
    "cat": ["b/k"],
    "get": ["b/k", "-g", "*", "p"],
    "put": ["s", "b/k", "--tag", "a=b", "--tag", "c=d", "--rf", "2"],
    "sync": ["s", "mictlanx://b", "-n", "--timeout", "5"],
    "publish": ["f", "b", "--bundle", "team-a", "--rf", "2"],
    "rm": ["b/k", "--older-than", "30d", "--keep-last", "3"],
    "du": ["b"],
    "bulk": ["run", "--wait"],
    "sweep": ["b", "--older-than", "1d"],
}


def test_provider_info_names_the_commands() -> None:
    (name,) = get_provider_info()["cli"]
    module, _, function = name.rpartition(".")
    assert getattr(importlib.import_module(module), function) is get_cli_commands


def test_a_line_is_given_for_every_command() -> None:
    assert [command.name for command in GROUP.subcommands] == [command.name for command in COMMANDS]
    assert set(LINES) == {command.name for command in COMMANDS}


@pytest.mark.parametrize("command", GROUP.subcommands, ids=lambda command: command.name)
def test_both_parsers_read_a_line_alike(command: ActionCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = argparse.ArgumentParser()
    for argument in command.args:
        argument.add_to_parser(parser)
    line = LINES[command.name]
    given = vars(parser.parse_args(line))
    assert given.pop("conn_id") == "mictlanx_default"
    own = vars(shell.build_parser().parse_args([command.name, *line]))
    assert {name: value for name, value in own.items() if name in given} == given
    assert own.keys() - given.keys() == {"command", "conn_id", "uri"}
    ran: list[tuple[str, Any]] = []
    monkeypatch.setattr(shell, "run", lambda name, args: ran.append((name, args)) or 7)
    with pytest.raises(SystemExit) as ended:
        command.func("the arguments")
    assert (ended.value.code, ran) == (7, [(command.name, "the arguments")])
