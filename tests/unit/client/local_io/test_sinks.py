"""Where a download is written, and read back from."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_mictlanx.client.local_io.atomic_file import OpenFolder
from airflow_provider_mictlanx.client.local_io.sinks import FileSink


def test_file_sink_reads_into_the_given_memory(tmp_path: Path) -> None:
    """Memory that a thread allocates stays with that thread, so every thread would keep some."""
    buffer = memoryview(bytearray(8))
    with OpenFolder(tmp_path) as folder, folder.make("target") as file:
        sink = FileSink(file)
        sink.write(2, b"content")
        assert sink.read(0, buffer[:4]).obj is buffer.obj
        assert bytes(buffer) == b"\0\0co\0\0\0\0"
        assert bytes(sink.read(6, buffer)) == b"ent"
