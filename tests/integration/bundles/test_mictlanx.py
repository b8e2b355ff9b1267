"""The DAG bundle on one machine: local copies, the link to the current version, outages, and many processes at once."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

base = pytest.importorskip("airflow.dag_processing.bundles.base", reason="Airflow 2 has no DAG bundles")

from airflow.providers.common.compat.sdk import AirflowException  # noqa: E402

from airflow_provider_mictlanx.batches.folder_versions import MANIFEST_NAME  # noqa: E402
from airflow_provider_mictlanx.bundles import mictlanx  # noqa: E402
from airflow_provider_mictlanx.bundles.mictlanx import MictlanXDagBundle  # noqa: E402
from airflow_provider_mictlanx.client.errors import MictlanXError, NotFoundError, ValidationError  # noqa: E402
from tests.support.forked_processes import ForkedProcesses  # noqa: E402
from tests.support.vss import LocalVSS  # noqa: E402

_PROCESSES = ForkedProcesses("tests.support.bundle_process", "aiohttp", "encodings.idna")
PROCESSES = 20

Make = Callable[..., MictlanXDagBundle]


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all local copies, which Airflow reads from its configuration."""
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "storage"))
    monkeypatch.setattr(base, "STALE_BUNDLE_TRACKING_FOLDER", tmp_path / "storage" / "_tracking")
    return tmp_path / "storage"


@pytest.fixture
def make(storage: Path, bucket_id: str) -> Make:
    """Make a bundle as another process or another start does."""
    return lambda **options: MictlanXDagBundle(name="team", bucket_id=bucket_id, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dags" / "pkg").mkdir(parents=True)
    (tmp_path / "dags" / "pkg" / "__init__.py").touch()
    (tmp_path / "dags" / "dag.py").write_text("first")
    return tmp_path / "dags"


def publish(make: Make, folder: Path, content: str) -> str:
    """Publish a changed folder; return the version."""
    (folder / "dag.py").write_text(content)
    version: str = make().publish(folder)["version"]
    return version


def version_of(bundle: MictlanXDagBundle) -> str | None:
    current = bundle.get_current_version()
    return current.version if hasattr(base, "BundleVersion") and current is not None else current


def sha_folders(storage: Path) -> set[str]:
    return {folder.name for folder in (storage / "team" / "versions").iterdir()}


def test_bundle_follows_publications(connected: LocalVSS, make: Make, folder: Path, storage: Path) -> None:
    first = publish(make, folder, "first")
    bundle = make()
    assert bundle.supports_versioning
    assert (version_of(bundle), bundle.path.exists()) == (None, False)
    bundle.initialize()
    path = bundle.path
    assert (version_of(bundle), (path / "dag.py").read_text()) == (first, "first")

    second = publish(make, folder, "second")
    assert (path / "dag.py").read_text() == "first", "it changes with a refresh only"
    bundle.refresh()
    assert bundle.path == path
    assert (version_of(bundle), (path / "dag.py").read_text()) == (second, "second")
    cached = [file for file in (storage / "team" / "cache").rglob("*") if file.is_file()]
    assert len(cached) == 2, "contents of earlier versions are not kept"


def test_snippets_of_the_page_run(
    own_vss: Callable[..., LocalVSS],
    connect: Callable[..., None],
    storage: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    connect(own_vss())
    monkeypatch.chdir(folder.parent)
    page = (Path(__file__).parents[3] / "docs" / "dag-bundles.md").read_text()
    names: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(snippet, names)
    shown, written = (re.findall(r"'(\w+)': ", text) for text in (page, capsys.readouterr().out))
    assert shown == written
    names["bundle"].initialize()
    assert (names["bundle"].path / "dag.py").read_text() == "first"
    assert storage in names["bundle"].path.parents


@pytest.mark.skipif(not hasattr(base, "BundleVersion"), reason="new in Airflow 3.3")
def test_version_is_not_deprecated_form(
    connected: LocalVSS, make: Make, folder: Path, bucket_id: str, recwarn: pytest.WarningsRecorder
) -> None:
    version = publish(make, folder, "first")
    bundle = make()
    bundle.initialize()
    unpacked = base.unpack_bundle_version(bundle.get_current_version(), bundle)
    assert unpacked == (version, {"bucket_id": bucket_id, "bundle": "dags"})
    assert not [warning for warning in recwarn if issubclass(warning.category, DeprecationWarning)]


def test_version_str_before_airflow_3_3(
    connected: LocalVSS, make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publish(make, folder, "first")
    monkeypatch.delattr(base, "BundleVersion", raising=False)
    assert make(version=version).get_current_version() == version


def test_pinned_version_stays(connected: LocalVSS, make: Make, folder: Path, storage: Path) -> None:
    """A run began with the first version; its later tasks start after the second was published, on a new worker."""
    first = publish(make, folder, "first")
    second = publish(make, folder, "second")
    latest, pinned = make(), make(version=first)
    latest.initialize()
    pinned.initialize()
    assert (pinned.path / "dag.py").read_text() == "first"
    assert pinned.path == base.get_bundle_version_path("team", first), "Airflow's cleanup looks there"
    assert (latest.path / "dag.py").read_text() == "second"
    assert (version_of(pinned), version_of(latest)) == (first, second)
    with pytest.raises(AirflowException, match="never changes"):
        pinned.refresh()


def test_pinned_local_version_needs_no_request(connected: LocalVSS, make: Make, folder: Path) -> None:
    version = publish(make, folder, "first")
    make().initialize()
    connected.reset_requests()
    make(version=version).initialize()
    assert connected.requests() == []


def test_new_version_reads_only_changed_files(connected: LocalVSS, make: Make, folder: Path, bucket_id: str) -> None:
    for number in range(20):
        (folder / f"unchanged_{number}.py").write_text(str(number))
    publish(make, folder, "first")
    bundle = make()
    bundle.initialize()
    publish(make, folder, "second")
    connected.reset_requests()
    bundle.refresh()
    assert len(connected.requests()) <= 8


@pytest.mark.parametrize("version", ["../../outside", "current", "A" * 64])
def test_invalid_version_is_refused(connected: LocalVSS, make: Make, version: str) -> None:
    with pytest.raises(ValidationError, match="version must be a SHA-256"):
        make(version=version).initialize()


def test_nothing_published_says_what_to_do(connected: LocalVSS, make: Make) -> None:
    with pytest.raises(NotFoundError, match="publish a folder"):
        make().initialize()


def test_storage_down_last_version_stays(
    own_vss: Callable[..., LocalVSS],
    connect: Callable[..., None],
    make: Make,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    vss = own_vss()
    connect(vss, connect_patience=0)
    version = publish(make, folder, "first")
    running = make()
    running.initialize()
    vss.kill()
    with caplog.at_level(logging.ERROR):
        running.refresh()
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "'team' was not refreshed" in record.message
    assert version in record.message
    assert record.exc_info is None
    for restarted in (make(), make(version=version)):
        restarted.initialize()
        assert (version_of(restarted), (restarted.path / "dag.py").read_text()) == (version, "first")
    with pytest.raises(MictlanXError, match="mictlanx_default"):
        make(version="0" * 64).initialize()


def test_storage_hung_keeps_last_version_soon(
    own_vss: Callable[..., LocalVSS],
    connect: Callable[..., None],
    make: Make,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(mictlanx, "CHECK_SECONDS", 0.3)
    vss = own_vss()
    connect(vss)
    publish(make, folder, "first")
    bundle = make()
    bundle.initialize()
    publish(make, folder, "second")
    with vss.fault("latency", path="/buckets/", seconds=20):
        bundle.refresh()
    assert "not done within the deadline of 0.3 s" in caplog.text
    assert (bundle.path / "dag.py").read_text() == "first"
    bundle.refresh()
    assert (bundle.path / "dag.py").read_text() == "second"


@pytest.mark.parametrize("broken", ["manifest", "file", "release without manifest"])
def test_broken_publication_keeps_last_version(
    connected: LocalVSS, make: Make, folder: Path, bucket_id: str, hook: Any, broken: str
) -> None:
    publish(make, folder, "first")
    bundle = make()
    bundle.initialize()
    version = publish(make, folder, "second")
    if broken == "file":
        file = json.loads(hook.get(bucket_id, f"dags/manifests/{version}"))["files"][0]
        hook.delete(bucket_id, f"dags/files/{file['sent']}/{file['sha256']}")
    elif broken == "manifest":
        hook.put(bucket_id, f"dags/manifests/{version}", b"{}", replace=True)
    else:
        hook.delete(bucket_id, f"dags/manifests/{version}")
    bundle.refresh()
    assert (bundle.path / "dag.py").read_text() == "first"
    assert len(list(bundle.versions_dir.iterdir())) == 1
    make().initialize()
    with pytest.raises(MictlanXError):
        make(version=version).initialize()
    publish(make, folder, "third")
    bundle.refresh()
    assert (bundle.path / "dag.py").read_text() == "third"


@pytest.mark.parametrize("damage", ["file removed", "file cut", "manifest removed"])
def test_damaged_local_copy_is_renewed(connected: LocalVSS, make: Make, folder: Path, damage: str) -> None:
    """Airflow's cleanup removes a copy file by file; if it is killed, the rest must not be taken for the version."""
    version = publish(make, folder, "first")
    bundle = make()
    bundle.initialize()
    {
        "file removed": lambda: (bundle.path / "pkg" / "__init__.py").unlink(),
        "file cut": lambda: (bundle.path / "dag.py").write_text("fir"),
        "manifest removed": lambda: (bundle.path / MANIFEST_NAME).unlink(),
    }[damage]()
    make(version=version).initialize()
    assert (bundle.path / "dag.py").read_text() == "first"
    assert (bundle.path / "pkg" / "__init__.py").exists()


def test_symlinks_in_the_storage_folder_lead_nowhere(
    connected: LocalVSS, make: Make, folder: Path, storage: Path, tmp_path: Path
) -> None:
    """Somebody who may write to the cache plants a link; nothing is written through it."""
    version = publish(make, folder, "first")
    outside = tmp_path / "outside"
    outside.mkdir()
    (storage / "team" / "cache").mkdir(parents=True)
    (storage / "team" / "cache" / "dags").symlink_to(outside)
    with pytest.raises(MictlanXError, match="symbolic link must not lead out"):
        make(version=version).initialize()
    assert list(outside.iterdir()) == []
    assert not (storage / "team" / "versions").exists()


def test_full_disk_is_one_error(connected: LocalVSS, make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = publish(make, folder, "first")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(MictlanXError, match=f"writing version {version} .* No space left"):
        make().initialize()
    monkeypatch.undo()


def test_copies_are_readable_by_other_users(connected: LocalVSS, make: Make, folder: Path) -> None:
    """With ``run_as_user`` a task runs as another user."""
    publish(make, folder, "first")
    bundle = make()
    mask = os.umask(0o022)
    try:
        bundle.initialize()
    finally:
        os.umask(mask)
    for path in (bundle.path.resolve(), *bundle.path.resolve().rglob("*")):
        wanted = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_current_version_is_kept_from_cleanup(
    connected: LocalVSS, make: Make, folder: Path, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow removes local copies that no process uses, also those that only the DAG processor used."""
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_MIN_VERSIONS", "0")
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_AGE_THRESHOLD", "0")
    first = publish(make, folder, "first")
    bundle = make()
    bundle.initialize()
    clean = base.BundleUsageTrackingManager()._remove_stale_bundle_versions_for_bundle
    clean("team")
    assert sha_folders(storage) == {first}
    second = publish(make, folder, "second")
    bundle.refresh()
    clean("team")
    assert sha_folders(storage) == {second}
    assert (bundle.path / "dag.py").read_text() == "second"


def test_slower_process_does_not_switch_back(
    connected: LocalVSS, make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read the list of versions before the second was published, and comes to the link after another process."""
    publish(make, folder, "first")
    slow, quick = make(), make()
    quick.initialize()
    publish(make, folder, "second")
    fetch = slow._fetch

    def fetch_late(version: str) -> None:
        fetch(version)
        publish(make, folder, "third")
        quick.refresh()

    monkeypatch.setattr(slow, "_fetch", fetch_late)
    slow.refresh()
    assert (quick.path / "dag.py").read_text() == "third"


def test_20_processes_initialize_one_version(
    connected: LocalVSS, make: Make, folder: Path, storage: Path, bucket_id: str
) -> None:
    """Half of them are tasks of this version, half look for the current one."""
    version = publish(make, folder, "first")
    connected.reset_requests()
    told = {"storage": str(storage), "name": "team", "bucket_id": bucket_id}
    (storage / "_locks").mkdir(parents=True)
    with (storage / "_locks" / "team.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until all have started
        started = [
            _PROCESSES.start("tests.support.bundle_process:main", {**told, "version": (version, None)[number % 2]})
            for number in range(PROCESSES)
        ]
        fcntl.flock(lock, fcntl.LOCK_UN)
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * PROCESSES, outputs
    found = [json.loads(output.splitlines()[-1]) for output, _ in outputs]
    assert found == [{"dag.py": "first", "pkg/__init__.py": ""}] * PROCESSES
    reads = [seen for seen in connected.requests("GET", f"/buckets/{bucket_id}/") if seen["path"].endswith("_0")]
    assert len(reads) <= 4, "one process reads the manifest and two contents"
    assert sha_folders(storage) == {version}
