"""Every command against a URI and against a connection of Airflow's database, in-process, through the shell's parser."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
import yaml

from airflow_provider_mictlanx.cli.definition import COMMANDS
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.shell import Shell
from tests.support.vss import LocalVSS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with three files, one of which is empty."""
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "one.txt").write_text("one")
    (source / "deep" / "two.bin").write_bytes(bytes(5000))
    (source / "deep" / "er" / "año nuevo").touch()
    return source


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_command_works(any_shell: Shell, bucket_id: str, folder: Path, tmp_path: Path) -> None:
    used = set()

    def run(command: str, *arguments: object, code: int = 0) -> str:
        used.add(command)
        ran = any_shell(command, *arguments)
        assert (ran.code, ran.err) == (code, ""), ran
        return ran.out

    def run_json(command: str, *arguments: object, code: int = 0) -> object:
        return json.loads(run(command, *arguments, "-o", "json", code=code))

    (checked,) = run_json("check")
    assert (len(checked["available"]), checked["error"]) == (3, None)
    run("put", folder / "one.txt", bucket_id)
    run("put", folder, f"{bucket_id}/2026", "--tag", "a=b=c")
    assert run_json("put", folder, f"{bucket_id}/2026")["skipped"] == 3
    assert [entry.get("prefix") or entry["key"] for entry in run_json("ls", bucket_id)] == ["2026/", "one.txt"]
    listed = run_json("ls", "-r", f"{bucket_id}/2026/", "deep")
    assert [entry["key"] for entry in listed] == ["2026/deep/er/año nuevo", "2026/deep/two.bin"]
    total = run_json("du", bucket_id)
    assert (total["objects"], total["size"], total["folders"][0]["size"]) == (4, 5006, 5003)
    (found,) = run_json("stat", f"{bucket_id}/2026/one.txt", "--check")
    assert (found["size"], found["tags"]["a"]) == (3, "b=c")
    assert run("cat", f"{bucket_id}/one.txt", f"mictlanx://{bucket_id}/2026/one.txt") == "oneone"
    run("get", f"{bucket_id}/one.txt", tmp_path / "renamed")
    run("get", f"{bucket_id}/one.txt", f"{tmp_path}/")
    assert (tmp_path / "renamed").read_text() == (tmp_path / "one.txt").read_text() == "one"
    run("get", "-r", f"{bucket_id}/2026", tmp_path / "copy")
    assert files(tmp_path / "copy") == files(folder)
    run("get", bucket_id, tmp_path / "matching", "--glob", "*.txt")
    assert set(files(tmp_path / "matching")) == {"one.txt", "2026/one.txt"}

    bulk_id = f"run-{bucket_id}"
    run("bulk", bulk_id, code=3)
    run("put", f"{folder}/**/*.txt", f"{bucket_id}/bulk", "--bulk-id", bulk_id)
    (status,) = run_json("bulk", bulk_id, "--wait")
    assert (status["state"], status["acknowledged"]) == ("complete", 1)
    deadline = time.monotonic() + 20  # the storage answers with its time in seconds
    while "start-0-" not in run("sweep", f"bulk-{bulk_id}", "--older-than", "0.001s"):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    run("sweep", f"bulk-{bulk_id}", "--older-than", "0.001s", "--delete")
    run("bulk", bulk_id, code=3)

    synced = run_json("sync", folder, f"mictlanx://{bucket_id}/mirror", "--dry-run")
    assert synced["transferred_names"] == sorted(files(folder))
    run("sync", folder, f"mictlanx://{bucket_id}/mirror")
    (folder / "one.txt").unlink()
    assert "- one.txt" in run("sync", folder, f"mictlanx://{bucket_id}/mirror", "--delete-extra", "-n").splitlines()
    run("sync", folder, f"mictlanx://{bucket_id}/mirror", "--delete-extra")
    run("sync", f"mictlanx://{bucket_id}/mirror", f"mictlanx://{bucket_id}/again")
    assert run_json("du", bucket_id, "again/")["objects"] == 2

    published = run_json("publish", folder, bucket_id, "--bundle", "team-a")
    assert (published["published"], published["total_files"]) == (True, 2)
    assert published["version"] in run("publish", folder, bucket_id, "--bundle", "team-a")
    run("rm", "-r", f"{bucket_id}/team-a")
    run("rm", "-r", f"{bucket_id}-versions", "--allow-whole-bucket")

    would = run_json("rm", "-r", f"{bucket_id}/again", "--keep-last", 1, "-n")
    done = run_json("rm", "-r", f"{bucket_id}/again", "--keep-last", 1)
    assert would["keys"] == done["keys"]
    assert (len(done["keys"]), done["kept"]) == (1, 1)
    assert run_json("rm", "-g", "mirror/*", bucket_id, "--older-than", "1 hour")["kept"] == 2
    assert run_json("rm", f"{bucket_id}/one.txt", f"{bucket_id}/2026/one.txt")["deleted"] == 2
    assert run_json("rm", f"{bucket_id}/one.txt", "--force")["absent"] == 1
    run("rm", "-r", bucket_id, "--allow-whole-bucket")
    left = any_shell("ls", bucket_id, "-o", "json")
    assert (left.code, left.data) == (3, [])
    assert used == {command.name for command in COMMANDS}


def test_connection_fills_unset_arguments(
    vss: LocalVSS, database_connection: str, capfd: pytest.CaptureFixture[str], bucket_id: str, tmp_path: Path
) -> None:
    from tests.support.shell import shell_of

    shell = shell_of(capfd, "--conn-id", database_connection)
    (tmp_path / "file").write_bytes(bytes(2500))
    assert shell("put", tmp_path / "file", bucket_id, "-o", "json").data["num_chunks"] == 3
    assert (
        shell("put", tmp_path / "file", f"{bucket_id}/other", "--chunk-size", "2kb", "-o", "json").data["num_chunks"]
        == 2
    )


def test_sync_reaches_the_storage_of_another_connection(
    shell: Shell, database_connection: str, bucket_id: str, folder: Path
) -> None:
    assert shell("sync", folder, f"mictlanx://{database_connection}@{bucket_id}/x").code == 0
    assert shell("du", bucket_id, "-o", "json").data["objects"] == 3
    ran = shell("sync", folder, f"mictlanx://no_such_connection@{bucket_id}/x")
    assert (ran.code, ran.err.count("\n")) == (2, 1)


def test_bulk_closed_as_failed_exits_like_a_failed_one(
    shell: Shell, connected: LocalVSS, bucket_id: str, folder: Path
) -> None:
    MictlanXHook().put(bucket_id, "one.txt", "other bytes")
    assert shell("put", folder, bucket_id, "--bulk-id", bucket_id).code == 1
    assert shell("bulk", bucket_id).code == 1
    MictlanXHook().await_bulk(bucket_id, fail_on_error=False, remove_on_completion=True)
    ran = shell("bulk", bucket_id, "--wait", "-o", "json")
    assert (ran.code, ran.data[0]["state"], ran.data[0]["result"]["state"]) == (1, "closed", "failed")


def test_put_reads_standard_input(shell: Shell, bucket_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"piped")))
    assert shell("put", "-", f"{bucket_id}/a/dump.sql").code == 0
    assert shell("cat", f"{bucket_id}/a/dump.sql").out == "piped"


def test_yaml_has_the_data_of_json(shell: Shell, connected: LocalVSS, bucket_id: str) -> None:
    MictlanXHook().put(bucket_id, "a", "1")
    assert yaml.safe_load(shell("ls", bucket_id, "-o", "yaml").out) == shell("ls", bucket_id, "-o", "json").data


def test_table_escapes_what_a_terminal_would_obey(shell: Shell, connected: LocalVSS, bucket_id: str) -> None:
    MictlanXHook().put(bucket_id, "a\x1b[2J\nb", "1")
    ran = shell("ls", bucket_id)
    assert ran.out.splitlines()[1].endswith(r"a\x1b[2J\nb")
    assert shell("ls", bucket_id, "-o", "json").data[0]["key"] == "a\x1b[2J\nb"
