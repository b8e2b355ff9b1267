"""Progress of long commands: bytes of one object, objects of many, and a bar only on a terminal."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from airflow_provider_mictlanx.batches.progress import Count, observing
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.byte_counter import counting_bytes
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.clients import client_of
from tests.support.shell import Shell
from tests.support.vss import LocalVSS


@pytest.mark.parametrize("chunk_size", ["2kb", "1MB"])
async def test_bytes_of_every_chunk_are_counted(chunk_size: str, vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    counted: list[int] = []
    client: AsyncClient
    async with client_of(vss) as client:
        with counting_bytes(counted.append):
            (await client.upload(bucket_id, "a", data=bytes(5000), chunk_size=chunk_size)).unwrap()
            sent = list(counted)
            (await client.download(bucket_id, "a", tmp_path, filename="a")).unwrap()
        (await client.upload(bucket_id, "b", data=b"1")).unwrap()
    assert sum(sent) == sum(counted[len(sent) :]) == 5000
    assert len(sent) == (2 if chunk_size == "2kb" else 1)


def test_objects_of_a_batch_are_observed(connected: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    for key in ("a", "b"):
        MictlanXHook().put(bucket_id, key, key * 10)
    seen: list[Count] = []
    with observing(seen.append):
        MictlanXHook().get_to_folder(tmp_path, bucket_id)
    assert seen == [Count("reading", 1, 2, 10, 20), Count("reading", 2, 2, 20, 20)]


def test_bar_is_shown_on_a_terminal_only(
    shell: Shell, bucket_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "[bold]a").write_bytes(bytes(5000))
    lines = [
        ("put", tmp_path, bucket_id, "-f"),
        ("get", f"{bucket_id}/[bold]a", tmp_path / "b"),
        ("rm", f"{bucket_id}/[bold]a"),
    ]
    for line, bar in zip(lines, ["1 of 1 objects", r"Reading \[bold\]a .*5\.0/5\.0 kB", "1/1"], strict=True):
        with monkeypatch.context() as patched:
            patched.setattr(sys.stderr, "isatty", lambda: True)
            patched.setenv("COLUMNS", "150")
            patched.setenv("TERM", "xterm")
            shown = shell(*line)
        assert shown.code == 0
        assert re.search(bar, re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.err)), shown.err
    assert shell("put", tmp_path, bucket_id, "-f").err == ""
