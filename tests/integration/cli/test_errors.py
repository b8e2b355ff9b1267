"""Every error of the shell is one line on standard error and an exit code, without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_mictlanx.cli import main as shell_main
from airflow_provider_mictlanx.cli.definition import COMMANDS
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.integration.cli.conftest import TOKEN
from tests.support.shell import Ran, Shell, shell_of
from tests.support.vss import LocalVSS

NOWHERE = "mictlanx://127.0.0.1:1/?protocol=http"
SECRET = "s3cr3t-passw0rd"


def check_error(ran: Ran, code: int, text: str) -> None:
    assert ran.code == code, ran
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.startswith("mictlanx")
    assert text in ran.err
    assert SECRET not in ran.err + ran.out
    assert TOKEN not in ran.err + ran.out


def test_error_is_one_line_with_its_exit_code(
    shell: Shell, connected: LocalVSS, bucket_id: str, tmp_path: Path
) -> None:
    MictlanXHook().put(bucket_id, "a", "stored")
    MictlanXHook().put(bucket_id, "f/a", "stored")
    file = tmp_path / "a"
    file.write_text("other")
    name = f"{bucket_id}/a"
    cases: list[tuple[int, str, tuple[object, ...]]] = [
        (1, "--replace replaces", ("put", file, name)),
        (1, "--replace replaces", ("put", tmp_path, f"{bucket_id}/f")),
        (1, "--replace replaces", ("get", name, file)),
        (1, "1 of 1 objects failed", ("get", "-r", f"{bucket_id}/f", tmp_path)),
        (2, "required: COMMAND", ()),
        (2, "invalid choice: 'lss'", ("lss",)),
        (2, "see mictlanx ls --help", ("ls",)),
        (2, "must be named BUCKET/KEY", ("stat", bucket_id)),
        (2, "must be a safe id", ("ls", "no bucket")),
        (2, "must be an existing file", ("put", tmp_path / "missing", name)),
        (2, "needs a key", ("put", "-", bucket_id)),
        (2, "must be NAME=VALUE", ("put", file, bucket_id, "--tag", "a")),
        (2, "needs a folder or glob", ("put", file, bucket_id, "--bulk-id", "run")),
        (2, "must not begin with 'bulk-'", ("put", tmp_path, "bulk-a")),
        (2, "choose another bucket\n", ("rm", "bulk-a/b")),
        (2, "set --allow-whole-bucket", ("rm", "-r", bucket_id)),
        (2, "selects from a complete bucket", ("rm", "-g", "*", name)),
        (2, "need --recursive or --glob", ("rm", name, "--dry-run")),
        (2, "must be in one bucket", ("rm", name, "other/a")),
        (2, "older_than must be", ("sweep", bucket_id, "--older-than", "long")),
        (2, "source or destination must be", ("sync", tmp_path, tmp_path / "b")),
        (2, "must not begin with 'bulk-'", ("publish", tmp_path, "bulk-a")),
        (2, "bundle must be letters", ("publish", tmp_path, bucket_id, "--bundle", "a b")),
        (2, "folder must be readable", ("publish", tmp_path / "missing", bucket_id)),
        (2, "set --allow-empty", ("sync", f"mictlanx://{bucket_id}/none", tmp_path / "b", "--delete-extra")),
        (2, "conn_id without ':'", ("sync", tmp_path, f"mictlanx://user:{SECRET}@host/a")),
        (2, "for standard output use", ("get", name, "-")),
        (2, "must be a file or folder", ("get", name, "")),
        (3, "does not exist", ("cat", f"{bucket_id}/missing")),
        (3, "does not exist", ("get", f"{bucket_id}/missing", tmp_path / "b")),
        (3, "; for a folder use --recursive", ("get", f"{bucket_id}/f", tmp_path / "b")),
        (2, "; for a folder use --recursive", ("get", bucket_id, tmp_path / "b")),
        (3, "has no object none/*", ("ls", f"{bucket_id}/none/")),
        (3, "has no object none/*", ("ls", "-r", bucket_id, "none/")),
        (3, "has no object none/*", ("get", "-r", f"{bucket_id}/none", tmp_path / "b")),
        (3, "has no object none/*", ("rm", "-r", f"{bucket_id}/none")),
        (3, "1 of 2 objects did not exist", ("rm", f"{bucket_id}/missing", f"{bucket_id}/f/a")),
    ]
    for code, text, arguments in cases:
        check_error(shell(*arguments), code, text)
    assert file.read_text() == "other"
    assert MictlanXHook().get(bucket_id, "a") == b"stored"


def test_failed_and_running_bulks_have_exit_codes(shell: Shell, bucket_id: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    bulk_id = f"run-{bucket_id}"
    assert shell("put", tmp_path, bucket_id, "--bulk-id", bulk_id).code == 0
    (tmp_path / "a").write_text("2")
    check_error(shell("put", tmp_path, bucket_id, "--bulk-id", bulk_id), 1, "objects are not stored")
    assert shell("bulk", bulk_id, "no-such-run").code == 3


@pytest.mark.parametrize("command", ["check", "ls", "bulk"])
def test_unreachable_storage_has_its_exit_code(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = {"check": (), "ls": ("bucket",), "bulk": ("run",)}[command]
    check_error(shell_of(capfd, "--uri", NOWHERE)(command, *arguments), 4, "")


@pytest.mark.parametrize("uri", ["mictlanx://127.0.0.1:60666", "mictlanx://a@h0:443,b@h1:60666/?http2=0"])
def test_port_that_https_would_not_use_is_refused(uri: str, capfd: pytest.CaptureFixture[str]) -> None:
    """As in a connection: without a protocol it is https, on port 443."""
    check_error(shell_of(capfd, "--uri", uri)("check"), 2, "must end with /?protocol=http or /?protocol=https")


def test_silent_peer_counts_as_unreachable(shell: Shell, vss: LocalVSS, bucket_id: str, connected: LocalVSS) -> None:
    MictlanXHook().put(bucket_id, "a", "1")
    with vss.fault("peer_down", peer="peer-0"):
        check_error(shell("ls", bucket_id, "--timeout", 1), 4, "peer-0")


def test_batch_that_only_met_network_errors_is_unreachable(capfd: pytest.CaptureFixture[str]) -> None:
    from airflow_provider_mictlanx.batches.runner import BatchError

    def code(*codes: int) -> int:
        return shell_main._report(BatchError("failed", result={"failures": [{"code": code} for code in codes]}))

    assert [code(1000), code(1001, 1004), code(1001, 500), code()] == [4, 4, 1, 1]


def test_wrong_connections_are_one_line(
    database_connection: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MICTLANX_URI", raising=False)
    check_error(shell_of(capfd)("ls", "b"), 2, "MICTLANX_URI")
    check_error(shell_of(capfd, "--conn-id", "no_such_connection")("ls", "b"), 2, "has no such connection")
    check_error(shell_of(capfd, "--uri", "http://h:1")("ls", "b"), 2, "must begin with mictlanx://")
    check_error(shell_of(capfd, "--uri", f"mictlanx://user:{SECRET}@h:1")("ls", "b"), 2, "token")
    check_error(shell_of(capfd)(f"mictlanx://user:{SECRET}@h:1", "ls", "b"), 2, "invalid choice")
    monkeypatch.setenv("MICTLANX_TOKEN", SECRET)
    monkeypatch.setenv("MICTLANX_URI", NOWHERE)
    check_error(shell_of(capfd)("ls", SECRET), 4, "***")
    check_error(shell_of(capfd, "--conn-id", database_connection)("stat", f"{TOKEN}/a"), 3, "***")


def test_unreadable_database_is_not_a_missing_connection(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from airflow import settings
    from sqlalchemy import create_engine
    from sqlalchemy.orm import sessionmaker

    monkeypatch.setattr(settings, "Session", sessionmaker(create_engine(f"sqlite:///{tmp_path}/no/such/folder.db")))
    check_error(shell_of(capfd, "--conn-id", "any")("ls", "b"), 1, "Airflow's database can't be read")


def test_unexpected_error_is_one_line_unless_verbose(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, bucket_id: str
) -> None:
    async def broken(client: object, args: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(shell_main.commands, "ls", broken)
    check_error(shell("ls", bucket_id), 1, "RuntimeError('broken')")
    assert "Traceback" in shell("ls", bucket_id, "--verbose").err


def test_verbose_logs_to_standard_error(shell: Shell, bucket_id: str, tmp_path: Path) -> None:
    ran = shell("bulk", f"run-{bucket_id}", "--verbose", "-o", "json")
    assert "is not planned yet" in ran.err
    assert ran.data[0]["state"] == "unplanned"


def test_only_long_commands_wait_for_routers() -> None:
    assert {command.name for command in COMMANDS if command.waits} == {"put", "get", "sync", "publish", "rm"}
