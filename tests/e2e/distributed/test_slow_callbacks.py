"""The log that the fixture ``local_airflow`` wants empty is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.distributed.conftest import SLOW_CALLBACKS

WORK = """
import asyncio, time

async def busy():
    end = time.thread_time() + 0.3
    while time.thread_time() < end:
        pass

asyncio.run(busy())
"""


def test_callback_that_takes_the_processor_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "slow.log"
    environment = {**os.environ, "PYTHONPATH": str(SLOW_CALLBACKS), "SLOW_CALLBACKS": str(log)}
    subprocess.run([sys.executable, "-c", WORK, "triggerer"], env=environment, check=True)
    (line,) = log.read_text().splitlines()
    assert float(line.partition(" s: ")[0]) >= 0.3
    assert "coro=<busy()" in line
