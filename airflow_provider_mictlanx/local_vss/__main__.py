"""Command line of the local VSS: ``python -m airflow_provider_mictlanx.local_vss``, or ``mictlanx-local-vss``."""

from __future__ import annotations

import asyncio
import logging
import shlex
import sys
from collections.abc import Sequence

from airflow_provider_mictlanx.local_vss.options import StartError, parse_options


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the local VSS until it is stopped; return the exit status: 0 after a stop, 2 if it cannot start.

    Once it answers, it prints one line: the shell command that sets the connection. Errors go to standard error.
    """
    try:
        options = parse_options(arguments)
        from airflow_provider_mictlanx.local_vss.server import LocalVSS

        logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
        asyncio.run(LocalVSS(options).run(_print_connection))
        return 0
    except ModuleNotFoundError as error:
        reason = f"{error.name} is missing; install it with: pip install 'airflow-provider-mictlanx[local-vss]'"
    except StartError as error:
        reason = str(error)
    print(f"mictlanx-local-vss: {reason}", file=sys.stderr)
    return 2


def _print_connection(uri: str) -> None:
    print(f"export AIRFLOW_CONN_MICTLANX_DEFAULT={shlex.quote(uri)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
