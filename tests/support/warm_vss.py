"""Imported before local VSSs are forked: what one of them compiles and caches, the others need not."""

from __future__ import annotations

import asyncio
import tempfile

from airflow_provider_mictlanx.local_vss.options import parse_options
from airflow_provider_mictlanx.local_vss.server import LocalVSS

with tempfile.TemporaryDirectory() as _folder:
    _vss = LocalVSS(parse_options(["--data", _folder, "--port", "0", "--peer-port-base", "0"]))
    asyncio.run(_vss.run(lambda _: _vss.stop()))
