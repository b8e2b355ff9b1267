"""``airflow mictlanx …``, and connections of Airflow: the only module of the shell that imports Airflow."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import redirect_stdout
from functools import partial

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand

from airflow_provider_mictlanx.cli.definition import COMMANDS, COMMON, DESCRIPTION, Argument
from airflow_provider_mictlanx.client import AsyncClient

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


def client_of_connection(args: Namespace, *, waits: bool) -> AsyncClient:
    """
    Return the client of a connection, and fill unset arguments from it.

    :param waits: whether requests wait for a while if no router can be reached
    """
    # Standard output is for the result, but Airflow 2 logs to it.
    with redirect_stdout(sys.stderr):
        from airflow.models.connection import Connection

        from airflow_provider_mictlanx.hooks.connection import load_settings
        from airflow_provider_mictlanx.hooks.mictlanx import new_client

        settings = load_settings(args.conn_id, Connection.get_connection_from_secrets)
    for name in ("timeout", "chunk_size", "max_concurrency"):
        if getattr(args, name, "") is None:
            setattr(args, name, getattr(settings, name))
    if not waits:
        settings = settings.model_copy(update={"connect_patience": 0.0})
    return new_client(settings, settings.tls())
