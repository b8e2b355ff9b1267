"""``MictlanXSyncOperator``: folders, buckets and other stores become alike, and nothing is deleted by mistake."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath
from fsspec import AbstractFileSystem
from fsspec.implementations.cached import SimpleCacheFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from airflow_provider_mictlanx.bulks import sync as engine
from airflow_provider_mictlanx.bulks.sync import side_of
from airflow_provider_mictlanx.client.errors import UnavailableError, UnknownError, ValidationError
from airflow_provider_mictlanx.client.object_ids import make_ball_id
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXSyncOperator
from tests.support.operator_runs import run
from tests.support.raw_requests import RawRequests
from tests.support.vss import LocalVSS

FILES = {"a": "1", "b": "22", "sub/c": "333", "empty": "", "sub/d e.txt": "4444"}


def sync(source: Any, destination: Any, **arguments: Any) -> dict[str, Any]:
    quick = {"max_tries": 2, "max_backoff": 0.05, "request_timeout": 5}
    result: dict[str, Any] = run(
        MictlanXSyncOperator(task_id="sync", source=source, destination=destination, **quick, **arguments)
    )
    return result


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def files_in(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def objects_in(hook: MictlanXHook, bucket_id: str, prefix: str = "") -> dict[str, str]:
    keys = hook.list_keys(bucket_id, prefix)
    return {key.removeprefix(prefix): hook.get(bucket_id, key).decode() for key in keys}


class Place:
    """A side of a sync, written to and read without the code under test."""

    def __init__(self, kind: str, hook: MictlanXHook, bucket_id: str, folder: Path) -> None:
        self.kind, self.hook, self.bucket_id, self.folder = kind, hook, bucket_id, folder
        self.memory = fsspec.filesystem("memory")
        self.location: Any = {
            "folder": str(folder),
            "bucket": f"mictlanx://{bucket_id}/some/prefix",
            "store": UPath(f"memory://{bucket_id}/out"),
        }[kind]

    def write(self, files: dict[str, str]) -> None:
        for name, content in files.items():
            if self.kind == "folder":
                write(self.folder, {name: content})
            elif self.kind == "bucket":
                self.hook.put(self.bucket_id, f"some/prefix/{name}", content, replace=True)
            else:
                self.memory.pipe_file(f"/{self.bucket_id}/out/{name}", content.encode())

    def delete(self, name: str) -> None:
        if self.kind == "folder":
            (self.folder / name).unlink()
        elif self.kind == "bucket":
            self.hook.delete(self.bucket_id, f"some/prefix/{name}")
        else:
            self.memory.rm_file(f"/{self.bucket_id}/out/{name}")

    def read(self) -> dict[str, str]:
        if self.kind == "folder":
            return files_in(self.folder)
        if self.kind == "bucket":
            return objects_in(self.hook, self.bucket_id, "some/prefix/")
        root = f"/{self.bucket_id}/out"
        return {path.removeprefix(f"{root}/"): self.memory.cat(path).decode() for path in self.memory.find(root)}


PAIRS = [("folder", "bucket"), ("bucket", "folder"), ("bucket", "bucket"), ("bucket", "store"), ("store", "bucket")]


@pytest.fixture
def places(request: pytest.FixtureRequest, hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> tuple[Place, Place]:
    one, other = request.param
    return Place(one, hook, bucket_id, tmp_path / "one"), Place(other, hook, f"{bucket_id}-other", tmp_path / "other")


@pytest.mark.parametrize("wrong", [{"rf": 0}, {"chunk_size": "much"}, {"max_tries": 0}])
def test_wrong_option_is_refused_before_any_request(
    connected: LocalVSS, hook: MictlanXHook, bucket_id: str, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    write(tmp_path, FILES)
    connected.reset_requests()
    with pytest.raises(ValidationError, match=f"^{next(iter(wrong))} must be"):
        hook.synchronize(str(tmp_path), f"mictlanx://{bucket_id}", **wrong)
    assert connected.requests() == []


@pytest.mark.parametrize("places", PAIRS, indirect=True, ids=" to ".join)
def test_sync_makes_the_destination_equal(places: tuple[Place, Place]) -> None:
    source, destination = places
    source.write(FILES)
    first = sync(source.location, destination.location)
    assert (first["total_balls"], first["transferred"], first["transferred_size"]) == (5, 5, 10)
    assert first["first_transferred"] == sorted(FILES)
    assert destination.read() == FILES
    again = sync(source.location, destination.location, delete_extra=True)
    assert (again["transferred"], again["skipped"], again["deleted"]) == (0, 5, 0)

    source.write({"b": "xx", "sub/new": "n"})  # of the same size, and new
    source.delete("a")
    destination.write({"extra": "e", "sub/extra": "ee", "sub/c": "wrong"})
    wanted = {**FILES, "b": "xx", "sub/new": "n"}
    del wanted["a"]
    before = destination.read()
    dry = sync(source.location, destination.location, delete_extra=True, dry_run=True)
    assert destination.read() == before
    real = sync(source.location, destination.location, delete_extra=True)
    assert destination.read() == wanted == source.read()
    assert (real["first_transferred"], real["first_deleted"]) == (
        ["b", "sub/c", "sub/new"],
        ["a", "extra", "sub/extra"],
    )
    assert (real["deleted"], real["deleted_size"], real["failed"]) == (3, 4, 0)
    different = {name for name in real if real[name] != dry[name]}
    assert different == {"dry_run", "response_time"}


@pytest.mark.parametrize("places", [PAIRS[0], PAIRS[1]], indirect=True, ids=" to ".join)
def test_random_steps_agree_with_a_dictionary(places: tuple[Place, Place]) -> None:
    source, destination = places
    rng = random.Random(19)
    here: dict[str, str] = {}
    there: dict[str, str] = {}
    for _ in range(6):
        for place, model in ((source, here), (destination, there)):
            for _ in range(3):
                name = rng.choice(["a", "b", "c/d", "c/e", "f g", "ñ"])
                if name in model and rng.random() < 0.4:
                    place.delete(name)
                    del model[name]
                else:
                    model[name] = rng.choice("xyz") * rng.randrange(3)
                    place.write({name: model[name]})
        delete_extra = rng.random() < 0.5
        result = sync(source.location, destination.location, delete_extra=delete_extra, allow_empty=True)
        assert result["first_transferred"] == sorted(name for name in here if here[name] != there.get(name))
        assert result["first_deleted"] == (sorted(there.keys() - here) if delete_extra else [])
        there = dict(here) if delete_extra else there | here
        assert destination.read() == there
        assert source.read() == here


def test_sync_sends_only_what_changed(hook: MictlanXHook, vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    """By the storage's request log: data of ten objects, and as many listings for 300 files as for 30."""
    listings = []
    for count in (30, 300):
        bucket, folder = f"{bucket_id}-{count}", tmp_path / str(count)
        write(folder, {f"{number:03}": f"content {number}" for number in range(count)})
        sync(folder, f"mictlanx://{bucket}")
        write(folder, {f"{number:03}": f"changed {number}" for number in range(10)})
        vss.reset_requests()
        assert sync(folder, f"mictlanx://{bucket}", check_storage=False)["transferred"] == 10
        requests = Counter((seen["method"], seen["route"].rpartition("v4")[2]) for seen in vss.requests())
        assert requests["POST", "/buckets/data/{task_id}/chunked"] == 10
        assert requests["GET", "/buckets/{bucket_id}/{key}"] == 0
        listings.append({name: seen for name, seen in requests.items() if "metadata" in name[1]})
    assert listings[0] == listings[1]


def test_announced_object_without_data_is_sent_again(
    hook: MictlanXHook, vss: LocalVSS, bucket_id: str, tmp_path: Path, short_grace: None
) -> None:
    """A listing shows what a killed upload has announced; the bytes are read before they count as stored."""
    write(tmp_path, FILES)
    with vss.fault("ack_without_storing", bucket=bucket_id, key="b*"):
        sync(tmp_path, f"mictlanx://{bucket_id}")
    trusting = sync(tmp_path, f"mictlanx://{bucket_id}", check_storage=False)
    assert trusting["transferred"] == 0
    result = sync(tmp_path, f"mictlanx://{bucket_id}")
    assert result["first_transferred"] == ["b"]
    assert objects_in(hook, bucket_id) == FILES


# What must not be deleted


@pytest.mark.parametrize("places", [PAIRS[0], PAIRS[1]], indirect=True, ids=" to ".join)
def test_silent_peer_changes_nothing(
    places: tuple[Place, Place], own_vss: Callable[..., LocalVSS], connect: Callable[..., None]
) -> None:
    vss = own_vss(peers=2)
    connect(vss)
    source, destination = places
    source.write(FILES)
    destination.write({"extra": "e", "a": "old"})
    before = destination.read()
    with vss.fault("peer_silent", peer="peer-1"), pytest.raises(UnavailableError):
        sync(source.location, destination.location, delete_extra=True)
    assert destination.read() == before


@pytest.mark.parametrize("places", [PAIRS[0], PAIRS[1]], indirect=True, ids=" to ".join)
def test_peer_that_falls_silent_before_the_deletion(
    places: tuple[Place, Place],
    own_vss: Callable[..., LocalVSS],
    connect: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vss = own_vss(peers=2)
    connect(vss)
    source, destination = places
    source.write(FILES)
    destination.write({"extra": "e"})
    delete = engine._Sync._delete

    async def fall_silent(*arguments: Any) -> None:
        vss.set_fault("peer_silent", peer="peer-1")
        await delete(*arguments)

    monkeypatch.setattr(engine._Sync, "_delete", fall_silent)
    with pytest.raises(UnavailableError):
        sync(source.location, destination.location, delete_extra=True)
    vss.clear_faults()
    assert destination.read() == {**FILES, "extra": "e"}


def test_failed_transfer_prevents_the_deletion(
    hook: MictlanXHook, vss: LocalVSS, bucket_id: str, tmp_path: Path
) -> None:
    hook.put(bucket_id, "extra", "e")
    write(tmp_path, FILES)
    with (
        vss.fault("status", method="POST", path=f"/buckets/{bucket_id}/metadata$", status=403, count=1),
        pytest.raises(AirflowFailException, match="1 of 5 objects failed"),
    ):
        sync(tmp_path, f"mictlanx://{bucket_id}", delete_extra=True)
    assert "extra" in hook.list_keys(bucket_id)
    assert sync(tmp_path, f"mictlanx://{bucket_id}", delete_extra=True)["first_deleted"] == ["extra"]


class ClosedFolder(MemoryFileSystem):
    """A store that lists folder by folder, as most do, and can't list one of them."""

    protocol = "closed"
    cachable = False
    find = AbstractFileSystem.find
    is_closed = False

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        if self.is_closed and path.endswith("/sub"):
            raise PermissionError(13, "closed", path)
        return super().ls(path, detail, **kwargs)


@pytest.mark.parametrize(
    ("wrap", "root"),
    [
        (lambda fs, _: fs, "/{}/in"),
        (lambda fs, bucket_id: DirFileSystem(f"/{bucket_id}", fs), "in"),
        (lambda fs, bucket_id: DirFileSystem("in", DirFileSystem(f"/{bucket_id}", fs)), ""),
        (lambda fs, _: SimpleCacheFileSystem(fs=fs), "/{}/in"),
    ],
    ids=["store", "folder", "folder of a folder", "cache"],
)
def test_folder_that_can_not_be_listed_deletes_nothing(
    hook: MictlanXHook, bucket_id: str, wrap: Callable[[AbstractFileSystem, str], AbstractFileSystem], root: str
) -> None:
    closed, root = ClosedFolder(), root.format(bucket_id)
    fs = wrap(closed, bucket_id)
    fs.pipe({f"{root}/{name}".lstrip("/"): content.encode() for name, content in FILES.items()})
    source = type("Path", (), {"fs": fs, "path": root, "protocol": "closed", "__str__": lambda _: f"closed:/{root}"})()
    hook.synchronize(source, f"mictlanx://{bucket_id}", delete_extra=True)
    closed.is_closed = True
    for sides in ((source, f"mictlanx://{bucket_id}"), (f"mictlanx://{bucket_id}", source)):
        with pytest.raises(UnknownError, match=r"PermissionError|Permission denied"):
            hook.synchronize(*sides, delete_extra=True)
    assert objects_in(hook, bucket_id) == FILES


@pytest.mark.parametrize("dry_run", [True, False])
def test_empty_source_deletes_nothing_unless_allowed(
    hook: MictlanXHook, bucket_id: str, tmp_path: Path, dry_run: bool
) -> None:
    write(tmp_path / "out", FILES)
    (tmp_path / "in").mkdir()
    hook.put(bucket_id, "kept", "k")
    for source, destination in (
        (tmp_path / "in", f"mictlanx://{bucket_id}"),
        (f"mictlanx://{bucket_id}/x", tmp_path / "out"),
    ):
        with pytest.raises(AirflowFailException, match=r"source must not be empty with delete_extra.*allow_empty"):
            sync(source, destination, delete_extra=True, dry_run=dry_run)
    assert (hook.list_keys(bucket_id), files_in(tmp_path / "out")) == (["kept"], FILES)
    assert sync(tmp_path / "in", f"mictlanx://{bucket_id}")["total_balls"] == 0
    allowed = {"delete_extra": True, "allow_empty": True, "dry_run": dry_run}
    assert sync(tmp_path / "in", f"mictlanx://{bucket_id}", **allowed)["first_deleted"] == ["kept"]
    assert hook.list_keys(bucket_id) == (["kept"] if dry_run else [])


def test_what_changes_during_the_sync_is_kept(
    hook: MictlanXHook, bucket_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the deletion, both sides are listed again."""
    source = write(tmp_path / "in", FILES)
    for key in ("changed", "comes", "extra"):
        hook.put(bucket_id, key, key)
    delete = engine._Sync._delete

    async def change(*arguments: Any) -> None:
        await hook.aput(bucket_id, "changed", "by another writer", replace=True)
        write(source, {"comes": "now"})
        await delete(*arguments)

    monkeypatch.setattr(engine._Sync, "_delete", change)
    assert sync(source, f"mictlanx://{bucket_id}", delete_extra=True)["first_deleted"] == ["extra"]
    assert set(hook.list_keys(bucket_id)) == {*FILES, "changed", "comes"}


def test_dry_run_names_what_the_run_deletes(hook: MictlanXHook, vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    """The source is writing ``half``, and ``/slash`` is the file ``slash``."""
    hook.put(bucket_id, "a", "1")
    for key in ("half", "/slash"):
        RawRequests(vss).put(bucket_id, make_ball_id(key), [b"1", b"2"], only=[0], tags={"full_path": key})
    write(tmp_path, {"half": "old", "slash": "old", "extra": "e"})
    dry, real = (sync(f"mictlanx://{bucket_id}", tmp_path, delete_extra=True, dry_run=dry) for dry in (True, False))
    assert dry["first_deleted"] == real["first_deleted"] == ["extra"]
    assert files_in(tmp_path) == {"a": "1", "half": "old", "slash": "old"}


def test_keys_with_a_slash_are_other_keys_in_a_bucket(hook: MictlanXHook, bucket_id: str) -> None:
    for key in ("in//a", "out/a"):
        hook.put(bucket_id, key, "1")
    result = sync(f"mictlanx://{bucket_id}/in", f"mictlanx://{bucket_id}/out", delete_extra=True)
    assert (result["first_transferred"], result["first_deleted"]) == (["/a"], ["a"])


def test_file_with_a_second_name_is_kept(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> None:
    """A file below a linked folder has two names; a folder that ignores case gives them two, too."""
    hook.put(bucket_id, "link/a", "1")
    write(tmp_path, {"folder/extra": "e"})
    (tmp_path / "link").symlink_to("folder")
    for deleted in (["folder/extra"], []):
        assert sync(f"mictlanx://{bucket_id}", tmp_path, delete_extra=True)["first_deleted"] == deleted
    assert files_in(tmp_path / "folder") == {"a": "1"}


def test_nested_sides_by_other_routers_are_refused(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two connections to one storage space, which their URIs do not show."""
    vss = own_vss(peers=1, routers=2)
    connect(vss)
    routers, _, options = vss.uri.removeprefix("mictlanx://").partition("/")
    other = ",".join(reversed(routers.split(",")))
    connection = {"conn_type": "mictlanx", "extra": {"uri": f"mictlanx://{other}/{options}"}}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(connection))
    hook = MictlanXHook()
    for key in ("in/a", "b"):
        hook.put("bucket", key, key)
    for source, destination in (("bucket/in", "other@bucket"), ("bucket", "other@bucket/in")):
        with pytest.raises(AirflowFailException, match="must not contain each other"):
            sync(f"mictlanx://{source}", f"mictlanx://{destination}", delete_extra=True)
    assert sync("mictlanx://bucket", "mictlanx://other@bucket", delete_extra=True)["skipped"] == 2
    assert hook.list_keys("bucket") == ["b", "in/a"]


def test_sibling_folders_of_a_bucket_are_synced(connected: LocalVSS, hook: MictlanXHook, bucket_id: str) -> None:
    """Also with names of one length."""
    hook.put(bucket_id, "site/a", "1")
    assert sync(f"mictlanx://{bucket_id}/site", f"mictlanx://{bucket_id}/copy")["transferred"] == 1
    assert objects_in(hook, bucket_id) == {"site/a": "1", "copy/a": "1"}


def test_incomplete_object_of_the_source_keeps_its_copy(
    hook: MictlanXHook, vss: LocalVSS, bucket_id: str, tmp_path: Path
) -> None:
    """An object that is being replaced is listed incomplete, or not at all by ``list_balls``."""
    hook.put(bucket_id, "whole", "w")
    with (
        vss.fault("status", method="POST", path="/buckets/data/", status=403, skip=1),
        pytest.raises(Exception, match="big"),
    ):
        hook.put(bucket_id, "big", os.urandom(1000), chunk_size="100b", max_tries=1, max_concurrency=1)
    write(tmp_path, {"big": "the last good copy", "whole": "w", "junk": "j"})
    assert hook.list_keys(bucket_id) == ["whole"]
    assert sync(f"mictlanx://{bucket_id}", tmp_path, delete_extra=True)["first_deleted"] == ["junk"]
    assert files_in(tmp_path) == {"big": "the last good copy", "whole": "w"}


def test_links_and_partial_downloads_are_left_alone(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> None:
    hook.put(bucket_id, "a", "1")
    folder, partial = tmp_path / "out", ".mictlanx-0123-0.part"
    write(folder, {partial: "p"})
    (folder / "link").symlink_to(tmp_path)
    assert sync(f"mictlanx://{bucket_id}", folder, delete_extra=True)["deleted"] == 0
    assert sorted(path.name for path in folder.iterdir()) == [partial, "a", "link"]
    (folder / "link").unlink()
    assert sync(folder, f"mictlanx://{bucket_id}")["total_balls"] == 1


# Sides


def test_key_that_can_not_be_a_file_fails_alone(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> None:
    for key in ("a", "../b", "c/d", "c//d"):
        hook.put(bucket_id, key, key)
    for dry_run in (True, False):
        result = sync(f"mictlanx://{bucket_id}", tmp_path / "out", fail_on_error=False, dry_run=dry_run)
        assert (result["transferred"], result["failed"], result["first_transferred"]) == (1, 3, ["a"])
    assert files_in(tmp_path) == {"out/a": "a"}


@pytest.mark.parametrize(
    ("source", "destination", "why"),
    [
        ("{folder}", "{folder}", r"source or destination must be mictlanx://\[conn_id@\]bucket"),
        ("{folder}/none", "mictlanx://{bucket}", "source must be a folder"),
        ("mictlanx://{bucket}", "mictlanx://{bucket}/x", "must not contain each other"),
        ("mictlanx://s3cr3t@host:60666/?protocol=http", "{folder}", "must name a bucket"),
        ("{folder}", "mictlanx://bulk-records", "must not begin with 'bulk-'"),
        ("s3://bucket/x", "mictlanx://{bucket}", "use ObjectStoragePath"),
        ("", "mictlanx://{bucket}", "must not be empty"),
        ("mictlanx://nowhere@{bucket}", "{folder}", "nowhere"),
    ],
)
def test_impossible_sides_are_refused(
    hook: MictlanXHook, bucket_id: str, tmp_path: Path, source: str, destination: str, why: str
) -> None:
    one, other = (side.format(folder=tmp_path, bucket=bucket_id) for side in (source, destination))
    with pytest.raises(AirflowFailException, match=why) as caught:
        sync(one, other)
    assert "s3cr3t" not in str(caught.value)


def test_other_connection_in_the_uri(
    hook: MictlanXHook, own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str
) -> None:
    connect(own_vss(peers=1), "second")
    hook.put(bucket_id, "a/b", "1")
    result = sync(f"mictlanx://{bucket_id}", f"mictlanx://second@{bucket_id}")  # the same name is another bucket there
    assert (result["transferred"], result["destination"]) == (1, f"mictlanx://second@{bucket_id}/")
    assert MictlanXHook("second").get_text(bucket_id, "a/b") == "1"
    path = ObjectStoragePath(f"mictlanx://{bucket_id}/a", conn_id="second")
    assert str(side_of(path)) == f"mictlanx://second@{bucket_id}/a/"
    with pytest.raises(ValidationError, match="must have a connection"):
        side_of(UPath(f"mictlanx://{bucket_id}", uri=own_vss(peers=1).uri))


def test_xcom_of_many_objects_is_small(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> None:
    write(tmp_path, {f"{'long' * 30}/{number}": "" for number in range(40)})
    result = sync(tmp_path, f"mictlanx://{bucket_id}", dry_run=True)
    assert result["transferred"] == 40
    assert 10 < len(result["first_transferred"]) < 20
    assert len(json.dumps(result)) < 4000


def test_lineage_names_both_sides(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> None:
    write(tmp_path, FILES)
    hook.synchronize(tmp_path, f"mictlanx://{bucket_id}/in")
    assert [place.name for place in hook.trace.reads] == [str(tmp_path)]
    assert [(place.container, place.name) for place in hook.trace.writes] == [(bucket_id, "in/")]
