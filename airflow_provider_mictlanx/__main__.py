"""``python -m airflow_provider_mictlanx``, the shell; the console script ``mictlanx`` is the same."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process, and return its exit code."""
    try:
        from airflow_provider_mictlanx.cli.main import main as run_command_line

        return run_command_line()
    except KeyboardInterrupt:  # during the imports
        sys.stderr.write("mictlanx: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
