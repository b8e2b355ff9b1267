"""Run as a process that is to be killed: downloads a ball into a folder. Arguments: uri, bucket, key, folder."""

from __future__ import annotations

import asyncio
import sys

from airflow_provider_mictlanx.client import AsyncClient


async def main(uri: str, bucket_id: str, key: str, folder: str) -> None:
    async with AsyncClient(uri, "interrupted", debug=False, log_output_path=None) as client:
        (await client.download(bucket_id, key, folder, filename="target", max_concurrency=2)).unwrap()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
