"""Writers in processes of their own, at the same moment, with readers beside them: whatever the interleaving happens to be."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any

from airflow_provider_mictlanx.client import (
    AsyncClient,
    BallConflictError,
    GetChunkError,
    NotFoundError,
    UnavailableError,
)
from tests.support.clients import client_of
from tests.support.forked_processes import Child, ForkedProcesses
from tests.support.sample_bytes import pattern
from tests.support.vss import LocalVSS

_PROCESSES = ForkedProcesses(__name__)

WRITERS = 3
ROUNDS = 12


def content_of(round_number: int, writer: int) -> bytes:
    """Return a writer's bytes: in every other round the same as all writers'."""
    return pattern(900, seed=writer if round_number % 2 else 0)


def write(told: dict[str, Any]) -> None:
    """Put one ball whenever a line comes in, and tell in a line how that ended."""

    async def rounds() -> None:
        async with AsyncClient(told["uri"], "writer", debug=False, log_output_path=None) as client:
            for number in range(ROUNDS):
                sys.stdin.readline()
                data = content_of(number, told["writer"])
                result = await client.put(told["bucket_id"], f"k{number}", data, "300")
                sys.stdout.write(f"{type(result.unwrap_err()).__name__ if result.is_err else 'stored'}\n")
                sys.stdout.flush()

    asyncio.run(rounds())


def test_writers_in_processes_of_their_own(vss: LocalVSS, bucket_id: str) -> None:
    told = {"uri": vss.uri, "bucket_id": bucket_id}
    writers = [_PROCESSES.start(f"{__name__}:write", {**told, "writer": number}) for number in range(WRITERS)]
    try:
        asyncio.run(_rounds(vss, bucket_id, writers))
    finally:
        for writer in writers:
            writer.kill()
            for pipe in (writer.stdin, writer.stdout, writer.stderr):
                pipe.close()
    # Of writers with other bytes, one may clear what the others announced and no peer has.
    deleted = {re.findall(r"/k(\d+)", seen["path"])[0] for seen in vss.requests("DELETE", bucket_id)}
    assert all(int(number) % 2 for number in deleted)


async def _rounds(vss: LocalVSS, bucket_id: str, writers: list[Child]) -> None:
    async with client_of(vss) as reader:
        for number in range(ROUNDS):
            for writer in writers:
                writer.stdin.write("\n")
                writer.stdin.flush()
            endings = asyncio.gather(*(asyncio.to_thread(writer.stdout.readline) for writer in writers))
            possible = {content_of(number, writer) for writer in range(WRITERS)}
            while not endings.done():  # nobody ever reads a mixture
                read = await reader.get(bucket_id, f"k{number}", max_retries=1)
                if read.is_ok:
                    assert bytes(read.unwrap().data) in possible
                else:
                    assert isinstance(read.unwrap_err(), NotFoundError | GetChunkError | UnavailableError)
            told = [line.strip() for line in await endings]
            stored = [writer for writer, ending in enumerate(told) if ending == "stored"]
            assert set(told) <= {"stored", BallConflictError.__name__}
            assert len(stored) == WRITERS if number % 2 == 0 else len(stored) <= 1
            read = await reader.get(bucket_id, f"k{number}", force=True, max_retries=2)
            if stored:
                assert bytes(read.unwrap().data) == content_of(number, stored[0])
            else:
                assert isinstance(read.unwrap_err(), NotFoundError | GetChunkError)
