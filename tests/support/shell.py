"""Run commands of the shell in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from airflow_provider_mictlanx.cli.main import main


class Ran(NamedTuple):
    """
    What a command did.

    :ivar code: exit code
    """

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The result of a command with ``-o json``."""
        return json.loads(self.out)


Shell = Callable[..., Ran]


def shell_of(capfd: pytest.CaptureFixture[str], *options: str) -> Shell:
    """Return a function that runs a command line in this process: ``shell("ls", bucket_id)``."""

    def run(*arguments: object) -> Ran:
        capfd.readouterr()
        try:
            code = main([*options, *map(str, arguments)])
        except SystemExit as ended:  # argparse
            code = int(ended.code or 0)
        return Ran(code, *capfd.readouterr())

    return run
