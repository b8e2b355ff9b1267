"""``python -m airflow_provider_mictlanx``, the shell; the console script ``mictlanx`` is the same."""

from __future__ import annotations

import sys

from airflow_provider_mictlanx.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
