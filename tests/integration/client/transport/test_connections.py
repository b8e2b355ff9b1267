"""The pool of connections: what a cancelled request leaves behind."""

from __future__ import annotations

import asyncio
import contextlib

from airflow_provider_mictlanx.client.transport.connections import Transport
from tests.support.engines import busy_connections_of
from tests.support.vss import LocalVSS


def test_request_cancelled_any_time_returns_its_connection(vss: LocalVSS) -> None:
    async def cancel_at_many_moments() -> int:
        transport = Transport()
        for moment in range(120):
            request = asyncio.create_task(
                transport.send("GET", f"{vss.api()}/peers", action="asking", timeout=10, verify=False)
            )
            for _ in range(moment % 60):  # so many turns of the loop, to meet the end of the answer too
                await asyncio.sleep(0 if moment < 60 else 0.0001)
            request.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await request
        lost = busy_connections_of(transport)
        await transport.aclose()
        return lost

    assert asyncio.run(cancel_at_many_moments()) == 0
