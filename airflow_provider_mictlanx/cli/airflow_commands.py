"""``airflow mictlanx …``: the commands in the form of Airflow's command line, for the provider-info key ``cli``."""

from __future__ import annotations

import sys
from argparse import Namespace
from functools import partial

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand

from airflow_provider_mictlanx.cli.definition import COMMANDS, COMMON, DESCRIPTION, Argument

_CONNECTION = Argument(
    ("--conn-id",), {"default": "mictlanx_default", "help": "connection of type MictlanX; default: mictlanx_default"}
)


def get_cli_commands() -> list[CLICommand]:
    """Return the group ``airflow mictlanx``, which Airflow's command line adds to its own."""
    commands = [
        ActionCommand(
            name=command.name,
            help=command.help,
            func=partial(_run, command.name),
            args=[
                Arg(flags, **options)  # type: ignore[no-untyped-call]
                for flags, options in (*command.arguments, _CONNECTION, *COMMON)
            ],
        )
        for command in COMMANDS
    ]
    return [GroupCommand(name="mictlanx", help=DESCRIPTION, subcommands=commands)]


def _run(name: str, args: Namespace) -> None:
    from airflow_provider_mictlanx.cli.main import run

    sys.exit(run(name, args))
