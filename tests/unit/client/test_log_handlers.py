"""The client's own log handlers: the console, a file that is rotated, and that they go with the client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import AsyncClient, ValidationError

URI = "mictlanx://router-0@127.0.0.1:1/?protocol=http"
log = logging.getLogger("airflow_provider_mictlanx.client")


def client_of(**arguments: Any) -> AsyncClient:
    return AsyncClient(**{"uri": URI, "client_id": "nightly", "debug": False, "log_output_path": None, **arguments})


def close(*clients: AsyncClient) -> None:
    async def closing() -> None:
        for client in clients:
            await client.aclose()

    asyncio.run(closing())


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = (list(log.handlers), log.level)
    yield
    assert (log.handlers, log.level) == before


def test_debug_logs_to_console_while_client_is_open(capsys: pytest.CaptureFixture[str]) -> None:
    client = client_of(debug=True)
    log.debug("a detail")
    logging.getLogger(f"{log.name}.retry").info("a try")
    close(client)
    log.debug("too late")
    said = capsys.readouterr().err
    assert "DEBUG a detail" in said
    assert "INFO a try" in said
    assert "too late" not in said


def test_without_debug_and_folder_nothing_is_added() -> None:
    before = list(log.handlers)
    client = client_of()
    assert log.handlers == before
    close(client)


def test_two_clients_share_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = client_of(debug=True), client_of(debug=True)
    log.debug("once")
    close(first)
    log.debug("still")
    close(second)
    said = capsys.readouterr().err
    assert said.count("once") == 1
    assert said.count("still") == 1


def test_file_is_named_after_the_client_and_the_folder_is_made(tmp_path: Path) -> None:
    client = client_of(client_id="../night ly", log_output_path=tmp_path / "a" / "b")
    log.debug("a line")
    close(client, client)
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["_night_ly.log"]
    assert (tmp_path / "a" / "b" / "_night_ly.log").read_text().endswith("DEBUG a line\n")


def test_file_is_rotated_as_asked(tmp_path: Path) -> None:
    client = client_of(log_output_path=str(tmp_path), log_when="h", log_interval=2)
    [handler] = [handler for handler in log.handlers if isinstance(handler, TimedRotatingFileHandler)]
    assert (handler.when, handler.interval) == ("H", 2 * 3600)
    log.debug("before")
    handler.rolloverAt = 0
    log.debug("after")
    close(client)
    assert [line.split()[-1] for line in (tmp_path / "nightly.log").read_text().splitlines()] == ["after"]
    [rotated] = [path for path in tmp_path.iterdir() if path.name != "nightly.log"]
    assert rotated.read_text().endswith("DEBUG before\n")


def test_one_file_has_one_handler(tmp_path: Path) -> None:
    first = client_of(log_output_path=str(tmp_path), log_when="m")
    second = client_of(log_output_path=f"{tmp_path}/.", log_when="h")
    log.debug("a line")
    close(first)
    log.debug("another")
    close(second)
    assert (tmp_path / "nightly.log").read_text().count("line") == 1
    assert (tmp_path / "nightly.log").read_text().count("another") == 1


def test_unusable_folder_is_warned_of_once_and_no_file_is_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    clients = [client_of(log_output_path=str(tmp_path / "file" / "logs")) for _ in range(3)]
    close(*clients)
    [warning] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (
        warning.getMessage()
        == f"Writing a log file to {tmp_path}/file/logs failed: Not a directory; set log_output_path"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_application_s_own_level_comes_back(tmp_path: Path) -> None:
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        client = client_of(debug=True, log_output_path=str(tmp_path))
        assert log.level == logging.DEBUG
        close(client)
        assert log.level == logging.ERROR
    finally:
        log.setLevel(before)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"log_when": "x"}, "log_when must be one of"),
        ({"log_when": "w7"}, "log_when must be one of"),
        ({"log_interval": 0}, "log_interval must be an int of at least 1"),
        ({"log_interval": "5"}, "log_interval must be an int of at least 1"),
        ({"client_id": ""}, "client_id must be valid Unicode and not empty"),
        ({"client_id": "a\udcff"}, "client_id must be valid Unicode and not empty"),
        ({"max_workers": 0}, "max_workers must be an int of at least 1"),
        ({"max_workers": True}, "max_workers must be an int of at least 1"),
        ({"eviction_policy": "MRU"}, "eviction_policy must be one of LRU, LFU, FIFO, RR, got 'MRU'"),
        ({"capacity_storage": "much"}, "capacity_storage must be a size"),
        ({"capacity_storage": -1}, "capacity_storage must be at least 0 bytes"),
        ({"capacity_storage": None}, "capacity_storage must be a size"),
        ({"uri": "http://x"}, "begin with mictlanx://"),
    ],
)
def test_wrong_arguments_are_refused_and_leave_no_handler(arguments: dict[str, Any], why: str, tmp_path: Path) -> None:
    given = {"uri": URI, "client_id": "c", "debug": True, "log_output_path": str(tmp_path), **arguments}
    with pytest.raises(ValidationError) as raised:
        AsyncClient(**given)
    assert why in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("protocol", "verify", "warnings"), [("https", False, 1), ("https", True, 0), ("http", False, 0)]
)
def test_https_without_verify_is_warned_of_once(
    protocol: str, verify: bool, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    close(client_of(uri=f"mictlanx://router-0@127.0.0.1:1/?protocol={protocol}", verify=verify))
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == warnings
    assert all("does not check the routers' certificates; set verify=True" in line for line in said)


def test_the_warning_of_https_is_in_the_file_too(tmp_path: Path) -> None:
    uri = "mictlanx://router-0@127.0.0.1:1/?protocol=https"
    client = AsyncClient(uri, "nightly", debug=False, log_output_path=str(tmp_path))
    close(client)
    assert "WARNING Client nightly does not check" in (tmp_path / "nightly.log").read_text()
