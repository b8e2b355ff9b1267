"""The hook against the local VSS: every method and its twin, with and without loops, in threads and in forks."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import (
    BallConflictError,
    ConnectFailedError,
    DeadlineExceededError,
    MictlanXError,
    NotFoundError,
    ValidationError,
)
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.vss import LocalVSS

TEXT = "¡hola!\n"
CHECKSUM = hashlib.sha256(TEXT.encode()).hexdigest()
OWN = set(dir(MictlanXHook)) - set(dir(BaseHook))
TWINS = [name for name in sorted(OWN) if name.startswith("a") and name[1:] in OWN]


@pytest.fixture
def hook(connected: LocalVSS) -> MictlanXHook:
    return MictlanXHook()


def blocking(hook: MictlanXHook) -> Callable[..., Any]:
    return lambda name, *args, **kwargs: getattr(hook, name)(*args, **kwargs)


def awaiting(hook: MictlanXHook) -> Callable[..., Any]:
    return lambda name, *args, **kwargs: asyncio.run(getattr(hook, f"a{name}")(*args, **kwargs))


def blocking_in_a_loop(hook: MictlanXHook) -> Callable[..., Any]:
    def call(name: str, *args: Any, **kwargs: Any) -> Any:
        async def task() -> Any:
            return getattr(hook, name)(*args, **kwargs)

        return asyncio.run(task())

    return call


@pytest.fixture(params=[blocking, awaiting, blocking_in_a_loop])
def call(request: pytest.FixtureRequest, hook: MictlanXHook) -> Callable[..., Any]:
    """Call a method of the hook in each of the ways there are."""
    return request.param(hook)


def test_every_method(call: Callable[..., Any], bucket_id: str, tmp_path: Path) -> None:
    put = call("put", bucket_id, "a/b c.txt", TEXT, rf=2, tags={"run": "r1"})
    assert put.pop("response_time") > 0
    ball_id = hashlib.sha256(b"a/b c.txt").hexdigest()
    described = {"bucket_id": bucket_id, "key": "a/b c.txt", "ball_id": ball_id, "checksum": CHECKSUM, "num_chunks": 1}
    size = len(TEXT.encode())
    assert put == described | {"size": size, "replicas": 2, "uploaded": True}
    assert call("put", bucket_id, "a/b c.txt", TEXT.encode())["uploaded"] is False
    assert call("get", bucket_id, "a/b c.txt") == TEXT.encode()
    assert call("exists", bucket_id, "a/b c.txt", check_storage=True) is True
    assert call("exists", bucket_id, "a/b") is False

    got = call("get_to_file", bucket_id, "a/b c.txt", tmp_path / "new" / "folder")
    assert got.pop("response_time") > 0
    path = str(tmp_path / "new" / "folder" / "b c.txt")
    assert got == described | {"size": size, "path": path, "downloaded": True, "verified": True}
    assert Path(path).read_text() == TEXT
    assert call("get_to_file", bucket_id, "a/b c.txt", tmp_path / "new" / "folder")["downloaded"] is False

    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(300_000))
    file = call("put_file", bucket_id, "z-file", source, chunk_size="100kb")
    assert (file["size"], file["num_chunks"]) == (300_000, 3)
    assert file["checksum"] == hashlib.sha256(source.read_bytes()).hexdigest()

    found = call("get_metadata", bucket_id, "a/b c.txt", check_storage=True)
    assert found["updated_at"] > 0
    assert found["tags"]["run"] == "r1"
    assert {name: found[name] for name in described} == described
    assert call("find", bucket_id, "a/b c.txt") == found
    assert call("find", bucket_id, "nothing") is None
    balls = call("list_balls", bucket_id)
    assert [ball["key"] for ball in balls] == ["a/b c.txt", "z-file"]
    assert set(balls[0]) == set(found)
    assert [ball["key"] for ball in call("list_balls", bucket_id, prefix="a/")] == ["a/b c.txt"]
    assert [ball["key"] for ball in call("list_balls", bucket_id, glob="z*")] == ["z-file"]

    deleted = call("delete", bucket_id, "a/b c.txt")
    assert deleted == {"bucket_id": bucket_id, "key": "a/b c.txt", "ball_id": ball_id, "n_deletes": 2}
    assert call("delete", bucket_id, "a/b c.txt")["n_deletes"] == 0
    bucket = call("delete_bucket", bucket_id)
    assert bucket.pop("response_time") > 0
    assert bucket == {"bucket_id": bucket_id, "deleted": 1, "failed": 0, "total": 1}
    for result in (put, got, found, balls, deleted, bucket):
        json.dumps(result)
    with pytest.raises(NotFoundError):
        call("get", bucket_id, "z-file")


def test_every_documented_method_has_a_twin() -> None:
    methods = "put put_file get get_to_file exists get_metadata list_balls delete delete_bucket"
    assert {f"a{name}" for name in methods.split()} <= set(TWINS)


def test_errors_are_the_clients(call: Callable[..., Any], bucket_id: str, tmp_path: Path) -> None:
    call("put", bucket_id, "key", "one")
    with pytest.raises(BallConflictError):
        call("put", bucket_id, "key", "two")
    assert call("put", bucket_id, "key", "two", replace=True)["uploaded"]
    with pytest.raises(ValidationError, match="filename must not be empty"):
        call("get_to_file", bucket_id, "key", tmp_path, filename="")
    with pytest.raises(ValidationError, match="more than the allowed 2"):
        call("get", bucket_id, "key", max_size=2)


@pytest.mark.parametrize(
    ("key", "name"),
    [("a/b/c.txt", "c.txt"), ("../../up.txt", "up.txt"), ("/etc/passwd", "passwd"), ("a\\b", "b"), ("plain", "plain")],
)
def test_file_is_named_after_the_key_and_stays_in_its_folder(
    hook: MictlanXHook, bucket_id: str, tmp_path: Path, key: str, name: str
) -> None:
    hook.put(bucket_id, key, "x")
    assert hook.get_to_file(bucket_id, key, tmp_path / "out")["path"] == str(tmp_path / "out" / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", name]


@pytest.mark.parametrize("key", ["folder/", "..", "a/.."])
def test_key_that_names_no_file_gives_its_ball_id(hook: MictlanXHook, bucket_id: str, tmp_path: Path, key: str) -> None:
    ball_id = hook.put(bucket_id, key, "x")["ball_id"]
    assert hook.get_to_file(bucket_id, key, tmp_path)["path"] == str(tmp_path / ball_id)


def test_filename_can_be_chosen(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> None:
    hook.put(bucket_id, "key", "x")
    assert hook.get_to_file(bucket_id, "key", tmp_path, filename="mine.txt")["path"] == str(tmp_path / "mine.txt")
    with pytest.raises(ValidationError):
        hook.get_to_file(bucket_id, "key", tmp_path, filename="../mine.txt")


def test_defaults_are_the_connections_unless_given(vss: LocalVSS, connect: Callable[..., None], bucket_id: str) -> None:
    connect(vss, chunk_size="1kb", client_id="etl")
    hook = MictlanXHook()
    assert hook.put(bucket_id, "a", b"x" * 4000)["num_chunks"] == 4
    assert hook.put(bucket_id, "b", b"x" * 4000, chunk_size="2kb")["num_chunks"] == 2

    async def producers() -> set[str]:
        async with hook.open_client() as client:
            ball = unwrap(await client.get_metadata(bucket_id, "a"))
            return {chunk.producer_id for chunk in ball.chunks}

    assert asyncio.run(producers()) == {"etl"}


def test_request_timeout_is_the_connections_unless_given(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str
) -> None:
    vss = own_vss(peers=1)
    connect(vss, timeout=0.2)
    vss.set_fault("latency", seconds=1.5)
    with pytest.raises(MictlanXError):
        MictlanXHook().put(bucket_id, "key", "x", max_tries=1, deadline=0.8)
    with pytest.raises(DeadlineExceededError):
        MictlanXHook().exists(bucket_id, "key", request_timeout=30, deadline=0.3)


def logged(header: str) -> str:
    """Return the text that the local VSS writes into its request log in place of a secret."""
    return f"sha256:{hashlib.sha256(header.encode()).hexdigest()}"


def test_token_headers_and_no_secret_anywhere(
    vss: LocalVSS, connect: Callable[..., None], bucket_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    vss.reset_requests()
    connect(vss, password="s3cret-token", headers={"X-Tenant": "s3cret-header"})
    hook = MictlanXHook()
    with caplog.at_level(logging.DEBUG):
        hook.put(bucket_id, "key", "x")
        with pytest.raises(BallConflictError) as caught:
            hook.put(bucket_id, "key", "y")
        _, message = hook.test_connection()
    (sent,) = (seen for seen in vss.requests("POST", f"{bucket_id}/metadata") if seen["status"] == 200)
    assert sent["headers"]["authorization"] == logged("Bearer s3cret-token")
    assert sent["headers"]["x-tenant"] in ("s3cret-header", logged("s3cret-header"))
    shown = [caplog.text, str(caught.value), repr(caught.value), message]
    shown += [repr(hook), repr(hook.settings), repr(hook.get_conn())]
    assert "s3cret" not in "".join(shown)


# Connections and clients


def test_get_conn_is_unopened_and_works(hook: MictlanXHook, connected: LocalVSS, bucket_id: str) -> None:
    connected.reset_requests()
    client = hook.get_conn()
    assert isinstance(client, AsyncClient)
    assert not connected.requests(path=bucket_id)

    async def use() -> bytes:
        async with client:
            unwrap(await client.put(bucket_id, "key", b"x"))
            return bytes(unwrap(await client.get(bucket_id, "key")).data)

    assert asyncio.run(use()) == b"x"


@pytest.mark.parametrize(("bucket_id", "key"), [(None, "k"), ("b", None), ("bulk-b", "k")])
def test_refused_put_logs_nothing(hook: MictlanXHook, capfd: Any, caplog: Any, bucket_id: Any, key: Any) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(ValidationError):
        hook.put(bucket_id, key, "x")
    assert "Putting" not in caplog.text + capfd.readouterr().out


def test_error_counts_one_byte(hook: MictlanXHook, bucket_id: str) -> None:
    hook.put(bucket_id, "k", "x")
    with pytest.raises(BallConflictError, match=r"\(1 byte, SHA-256 .*\(1 byte, SHA-256"):
        hook.put(bucket_id, "k", "y")


def test_one_client_for_many_calls(hook: MictlanXHook, bucket_id: str) -> None:
    async def use() -> list[Any]:
        async with hook.open_client() as client:
            unwrap(await client.put(bucket_id, "key", b"x"))
            found = await asyncio.gather(*(hook.afind(bucket_id, "key", client=client) for _ in range(5)))
            return [ball["key"] if ball else None for ball in found]

    assert asyncio.run(use()) == ["key"] * 5


@pytest.mark.parametrize("name", ["find", "find_objects", "find_unchanged_bucket", "find_bulk"])
def test_blocking_call_takes_no_client_of_a_loop(hook: MictlanXHook, connected: LocalVSS, name: str) -> None:
    connected.reset_requests()
    with pytest.raises(ValidationError, match="client must be None in a blocking call"):
        getattr(hook, name)("bucket", *(["key"] if name == "find" else []), client=hook.get_conn())
    assert not connected.requests()


def count_lookups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    original = BaseHook.get_connection.__func__  # type: ignore[attr-defined]

    def slow(cls: type, conn_id: str) -> Any:
        seen.append(conn_id)
        time.sleep(0.05)
        return original(cls, conn_id)

    monkeypatch.setattr(BaseHook, "get_connection", classmethod(slow))
    if hasattr(BaseHook, "aget_connection"):
        async_original = BaseHook.aget_connection.__func__

        async def aslow(cls: type, conn_id: str) -> Any:
            seen.append(conn_id)
            await asyncio.sleep(0.05)
            return await async_original(cls, conn_id)

        monkeypatch.setattr(BaseHook, "aget_connection", classmethod(aslow))
    return seen


def test_making_a_hook_looks_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = count_lookups(monkeypatch)
    MictlanXHook("no_such_connection")
    assert seen == []


def test_threads_share_the_first_look_up(monkeypatch: pytest.MonkeyPatch, connected: LocalVSS, bucket_id: str) -> None:
    seen, hook = count_lookups(monkeypatch), MictlanXHook()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda n: hook.exists(bucket_id, f"k{n}"), range(4))) == [False] * 4
    assert seen == ["mictlanx_default"]


def test_coroutines_share_the_first_look_up(
    monkeypatch: pytest.MonkeyPatch, connected: LocalVSS, bucket_id: str
) -> None:
    seen, hook = count_lookups(monkeypatch), MictlanXHook()

    async def use() -> list[bool]:
        return await asyncio.gather(*(hook.aexists(bucket_id, f"k{n}") for n in range(4)))

    assert asyncio.run(use()) == [False] * 4
    assert asyncio.run(use()) == [False] * 4, "the next loop has what it needs"
    assert seen == ["mictlanx_default"]


async def test_look_ups_of_several_hooks_are_never_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch, connected: LocalVSS
) -> None:
    import airflow_provider_mictlanx.hooks.connection as connection

    at_once = most = 0
    original = connection.get_async_connection

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return await original(*args, **kwargs)

    monkeypatch.setattr(connection, "get_async_connection", counted)
    await asyncio.gather(*(MictlanXHook().aget_settings() for _ in range(5)))
    assert most == 1


async def test_async_look_up_does_not_block_the_loop(connected: LocalVSS, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificates are read in a thread: a loop that is blocked would be late."""
    import airflow_provider_mictlanx.hooks.connection as connection

    main, seen = threading.get_ident(), []
    monkeypatch.setattr(connection.ConnectionSettings, "reads_tls_files", True)
    monkeypatch.setattr(connection.ConnectionSettings, "tls", lambda self: seen.append(threading.get_ident()) or True)
    async with MictlanXHook().open_client():
        pass
    assert seen
    assert main not in seen


def test_request_timeout_is_named_as_the_caller_knows_it(hook: MictlanXHook, bucket_id: str) -> None:
    message = r"^request_timeout must be a number of seconds above 0, got 'soon' \(connection 'mictlanx_default'\)"
    with pytest.raises(ValidationError, match=message):
        hook.put(bucket_id, "key", "x", request_timeout="soon")


def test_paths_that_are_none_are_refused(hook: MictlanXHook, bucket_id: str) -> None:
    for path in ("", "a\0b", 5):
        with pytest.raises(ValidationError, match="path"):
            hook.put_file(bucket_id, "k", path)  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match="output_path"):
            hook.get_to_file(bucket_id, "k", path)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="max_concurrency"):
        hook.delete_bucket(bucket_id, max_concurrency=0)


def test_missing_connection_is_a_validation_error() -> None:
    hook = MictlanXHook("nobody_made_this_one")
    with pytest.raises(
        ValidationError, match="reading connection 'nobody_made_this_one' failed: Airflow has no such connection"
    ):
        hook.exists("bucket", "key")
    with pytest.raises(
        ValidationError, match="reading connection 'nobody_made_this_one' failed: Airflow has no such connection"
    ):
        asyncio.run(hook.aexists("bucket", "key"))


def test_copy_of_a_hook_works(hook: MictlanXHook, bucket_id: str) -> None:
    hook.put(bucket_id, "key", "x")
    assert deepcopy(hook).get(bucket_id, "key") == b"x"


def test_works_in_a_forked_worker_after_it_was_used(connected: LocalVSS, bucket_id: str) -> None:
    code = f"""
import os
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
hook = MictlanXHook()
hook.put({bucket_id!r}, "parent", "x")
child = os.fork()
if child == 0:
    done = hook.get({bucket_id!r}, "parent") == b"x" and hook.put({bucket_id!r}, "child", "y")["uploaded"]
    os._exit(0 if done else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert hook.get({bucket_id!r}, "child") == b"y"
raise SystemExit(status)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


# Test connection


def test_test_connection_names_every_router(own_vss: Callable[..., LocalVSS], monkeypatch: pytest.MonkeyPatch) -> None:
    vss = own_vss(routers=3, peers=2)
    routers = ",".join(f"R{n}@127.0.0.1:{vss.port + n}" for n in range(3))
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", f"mictlanx://{routers}/?protocol=http")
    well, message = MictlanXHook().test_connection()
    assert well
    lines = message.splitlines()
    assert lines[0] == "3 routers of one storage space with 2 peers."
    for n, line in enumerate(lines[1:]):
        assert line.startswith(f"R{n} (http://127.0.0.1:{vss.port + n}): 2 peers available, ")
        assert line.endswith(" ms.")


def test_test_connection_through_a_proxy_path(
    own_vss: Callable[..., LocalVSS], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local VSS serves no path, so every router says what it was asked for."""
    vss = own_vss(routers=3, peers=1)
    routers = ",".join(f"r{n}@127.0.0.1/v0/mictlanx/{n}:{vss.port + n}" for n in range(3))
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", f"mictlanx://{routers}/?protocol=http")
    well, message = MictlanXHook().test_connection()
    assert not well
    for n in range(3):
        assert f"\nr{n} (http://127.0.0.1:{vss.port + n}/v0/mictlanx/{n}): " in message
    assert {seen["path"] for seen in vss.requests()} == {f"/v0/mictlanx/{n}/api/v4/peers" for n in range(3)}


def test_test_connection_in_a_running_loop(hook: MictlanXHook) -> None:
    async def task() -> tuple[bool, str]:
        return hook.test_connection()

    assert asyncio.run(task())[0]


def test_test_connection_by_airflow(connected: LocalVSS) -> None:
    connection = BaseHook.get_connection("mictlanx_default")
    assert connection.get_hook().test_connection()[0]


def test_test_connection_with_a_dead_router(vss: LocalVSS, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"mictlanx://alive@127.0.0.1:{vss.port},dead@127.0.0.1:1/?protocol=http"
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", uri)
    well, message = MictlanXHook().test_connection()
    assert not well
    assert message.startswith(
        "1 of 2 routers failed.\ndead (http://127.0.0.1:1): no connection (Connection refused); check the address"
    )
    assert "\nalive (" in message
    assert "peers available" in message
    assert message.count("http://127.0.0.1:1)") == 1


def test_test_connection_with_two_storage_spaces(
    vss: LocalVSS, own_vss: Callable[..., LocalVSS], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = own_vss(peers=1)
    uri = f"mictlanx://one@127.0.0.1:{vss.port},two@127.0.0.1:{other.port}/?protocol=http"
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", uri)
    well, message = MictlanXHook().test_connection()
    assert not well
    assert "different storage spaces" in message
    assert "(peer-0)" in message


def test_test_connection_with_peers_away(own_vss: Callable[..., LocalVSS], connect: Callable[..., None]) -> None:
    vss = own_vss(peers=2)
    connect(vss)
    vss.set_fault("peer_down", peer="peer-0")
    well, message = MictlanXHook().test_connection()
    assert well
    assert "1 peer available" in message
    assert "unavailable: peer-0" in message
    vss.set_fault("peer_down", peer="peer-1")
    well, message = MictlanXHook().test_connection()
    assert not well
    assert "no peer is available" in message


def test_test_connection_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_MICTLANX_DEFAULT", raising=False)
    well, message = MictlanXHook().test_connection()
    assert not well
    assert message.startswith("Airflow has no such connection")
    assert "mictlanx_default" not in message.lower()


def test_dead_router_is_told_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", "mictlanx://r0@127.0.0.1:1/?protocol=http&connect_patience=0")
    with pytest.raises(ConnectFailedError, match=r"127\.0\.0\.1:1"):
        MictlanXHook().put("bucket", "key", "x", max_tries=1, deadline=20)
