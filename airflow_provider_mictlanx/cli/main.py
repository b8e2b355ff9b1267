"""Run a command: parse it, open its client, print its result, and turn every error into one line and an exit code."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import signal
import sys
import traceback
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from airflow_provider_mictlanx.cli import commands
from airflow_provider_mictlanx.cli.commands import Output
from airflow_provider_mictlanx.cli.definition import COMMANDS, COMMON, DESCRIPTION, EXIT_CODES
from airflow_provider_mictlanx.cli.output import print_result
from airflow_provider_mictlanx.cli.storage import open_client
from airflow_provider_mictlanx.client.errors import MictlanXError, NetworkError, NotFoundError, ValidationError
from airflow_provider_mictlanx.client.texts import clean, get_logger

PROGRAM = "mictlanx"

_PACKAGE_LOG = get_logger("airflow_provider_mictlanx")
_EXIT_CODES_BY_ERROR = {ValidationError: 2, NotFoundError: 3, NetworkError: 4}
_NETWORK_CODES = range(1000, 1005)
_CREDENTIALS = re.compile(r"(?<=//)[^/@\s]*:[^/@\s]*@")

_EPILOG = f"""\
environment:
  MICTLANX_URI    the storage, as --uri; other users of this machine can read a command line, but not this
  MICTLANX_TOKEN  sent as Authorization: Bearer, with a URI

exit codes:
{"".join(f"  {code:<5} {meaning}{chr(10)}" for code, meaning in EXIT_CODES.items())}"""


class _Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, without credentials of a misplaced URI."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {clean(_CREDENTIALS.sub('***@', message))}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``mictlanx …``."""
    parser = _Parser(
        PROGRAM, description=DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    storage = parser.add_mutually_exclusive_group()
    storage.add_argument("--uri", help="mictlanx://host:60666/?protocol=http; default: MICTLANX_URI")
    storage.add_argument("--conn-id", help="connection of Airflow, which is then imported: seconds instead of a moment")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for command in COMMANDS:
        own = subparsers.add_parser(command.name, help=command.help, description=f"{command.help}.")
        for flags, options in (*command.arguments, *COMMON):
            own.add_argument(*flags, **options)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, and return its exit code."""
    args = build_parser().parse_args(arguments)
    return run(args.command, args)


def run(name: str, args: Namespace) -> int:
    """Run a command with parsed arguments, and return its exit code."""
    with _logging(args.verbose):
        try:
            return _finish(asyncio.run(_execute(name, args)), args)
        except MictlanXError as error:
            return _report(error)
        except KeyboardInterrupt:
            _print_error("interrupted")
            return 130
        except asyncio.CancelledError:
            _print_error("terminated")
            return 143
        except BrokenPipeError:
            # Python would report it once more when it flushes standard output at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except Exception as error:
            if args.verbose:
                traceback.print_exc()
            _print_error(f"{type(error).__name__}: {error}" if isinstance(error, OSError) else f"unexpected {error!r}")
            return 1


async def _execute(name: str, args: Namespace) -> Output | None:
    command = next(command for command in COMMANDS if command.name == name)
    coroutine = getattr(commands, name)
    # As after Ctrl-C, uploads withdraw their announcements: others would see objects without data.
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with open_client(args, waits=command.waits) as client:
        result: Output | None = await coroutine(client, args)
        return result


def _finish(output: Output | None, args: Namespace) -> int:
    """Print the result of a command, then its error; return the exit code."""
    if output is None:
        return 0
    print_result(output.data, output.table, args.output)
    return output.exit_code if output.error is None else _report(output.error)


def _report(error: MictlanXError) -> int:
    """Print an error; return its exit code."""
    _print_error(str(error))
    failures = getattr(error, "result", {}).get("failures", [])
    if failures and all(failure["code"] in _NETWORK_CODES for failure in failures):
        return 4
    return next((code for kind, code in _EXIT_CODES_BY_ERROR.items() if isinstance(error, kind)), 1)


_FLAGS = ("replace", "delete_extra", "allow_empty", "allow_whole_bucket")


def _print_error(message: str) -> None:
    """Print one line, with the shell's flags instead of Python's arguments."""
    for name in _FLAGS:
        message = message.replace(f"{name}=True", f"--{name.replace('_', '-')}")
    message = message.replace(", or set allow_reserved_bucket=True", "")  # which is not for the shell
    sys.stderr.write(f"{PROGRAM}: {clean(message)}\n")


@contextmanager
def _logging(verbose: bool) -> Iterator[None]:
    """
    Send the package's warnings to standard error, and with ``verbose`` everything from INFO on.

    Airflow's handlers get none of them: in Airflow 2 they write to standard output.
    """
    before = _PACKAGE_LOG.propagate, _PACKAGE_LOG.level, _PACKAGE_LOG.handlers
    handler = logging.StreamHandler(_StandardError())
    handler.setFormatter(logging.Formatter(f"{PROGRAM}: %(message)s"))
    _PACKAGE_LOG.propagate, _PACKAGE_LOG.handlers = False, [handler]
    _PACKAGE_LOG.setLevel(logging.INFO if verbose else logging.WARNING)
    try:
        yield
    finally:
        _PACKAGE_LOG.propagate, _PACKAGE_LOG.handlers = before[0], before[2]
        _PACKAGE_LOG.setLevel(before[1])


class _StandardError:
    """The current standard error: a progress bar replaces it, to print lines above itself."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()
