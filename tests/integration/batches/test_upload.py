"""Uploads of many files in one call."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from airflow_provider_mictlanx.batches.upload import UploadItem, UploadOptions, upload_all
from airflow_provider_mictlanx.client.transfer import upload_window
from tests.support.clients import client_of
from tests.support.raw_requests import RawRequests
from tests.support.vss import LocalVSS

FILES = 6


async def test_cancelled_upload_withdraws_its_announcements(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else readers would find objects without data until somebody puts them."""
    monkeypatch.setattr(upload_window, "FEWEST_BALLS", 0)
    items = []
    for number in range(FILES):
        (path := tmp_path / f"f{number}").write_text(f"content {number}")
        items.append(UploadItem(bucket_id, path.name, path.stat().st_size, content={"path": path}))
    wire = RawRequests(vss)
    sending = vss.set_fault("latency", seconds=20, path="/buckets/data/", method="POST")
    async with client_of(vss) as client:
        uploading = asyncio.create_task(upload_all(client, items, UploadOptions(max_concurrency=1)))
        while not sending.triggered:
            assert not uploading.done()
            await asyncio.sleep(0.01)
        assert len({row["ball_id"] for row in wire.listed_in(bucket_id)}) == FILES
        uploading.cancel()
        await asyncio.wait([uploading], timeout=5)
        assert uploading.cancelled()
    sending.off()
    assert len({row["ball_id"] for row in wire.listed_in(bucket_id)}) <= 1, "of the object whose data was being sent"
