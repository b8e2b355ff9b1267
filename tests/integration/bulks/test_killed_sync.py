"""A sync that is killed at any request loses nothing, deletes nothing that is not extra, and the next one mends it."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.bulk_uploads import make_files, uncached_client
from tests.support.forked_processes import ForkedProcesses
from tests.support.killed_sync import run
from tests.support.vss import LocalVSS

_PROCESSES = ForkedProcesses("tests.support.killed_sync")
FILES = {f"f{number:02}": 100 * number for number in range(24)}
CHANGED = {"f03", "f17"}


def die(told: dict[str, Any]) -> bool:
    """Run a sync in a process of its own; return whether it was killed before its end."""
    dying = _PROCESSES.start("tests.support.killed_sync:main", told)
    output, errors = dying.communicate(timeout=120)
    assert dying.returncode in (0, -signal.SIGKILL), output + errors
    return bool(dying.returncode)


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def objects(vss: LocalVSS, bucket_id: str) -> dict[str, bytes]:
    """Return what every reader gets now."""
    async with uncached_client(vss) as client:
        balls = (await client.list_balls(bucket_id)).unwrap()
        found = {ball.key: await client.get(bucket_id, ball.key, max_retries=1) for ball in balls}
        return {key: answer.unwrap().data.tobytes() for key, answer in found.items() if answer.is_ok}


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("die_at", [1, 5, 30, 48, 62, 66, 71, 73, 77])
async def test_killed_upload(vss: LocalVSS, bucket_id: str, tmp_path: Path, die_at: int) -> None:
    """In the listing, the comparison, the announcements, the data, and the deletions."""
    contents = make_files(tmp_path / "in", FILES)
    (tmp_path / "temporary").mkdir()
    told: dict[str, Any] = {"uri": vss.uri, "source": str(tmp_path / "in"), "destination": f"mictlanx://{bucket_id}"}
    async with uncached_client(vss) as client:
        for key in ("extra", *sorted(FILES)[:8]):  # eight equal ones; f03 is changed below
            data = contents.get(key, b"e")
            (await client.put(bucket_id, key, data[::-1] + b"old" if key in CHANGED else data)).unwrap()
    how = random.Random(die_at).choice(["before", "after"])
    killed = die({**told, "die_at": die_at, "how": how, "temporary": str(tmp_path / "temporary"), "delete_extra": True})
    assert killed
    assert read(tmp_path / "in") == contents
    found = await objects(vss, bucket_id)
    equal = set(sorted(FILES)[:8]) - CHANGED
    assert {key: found[key] for key in equal} == {key: contents[key] for key in equal}
    for key in found.keys() & contents.keys() - CHANGED:
        assert found[key] == contents[key]
    if "extra" not in found:
        assert found == contents, "the deletion comes last"
    result = await run(**told, delete_extra=True)
    assert result.outcome.failures == []
    assert await objects(vss, bucket_id) == contents


@pytest.mark.parametrize("to", ["folder", "store"])
@pytest.mark.parametrize("die_at", [2, 5, 20])
async def test_killed_download(vss: LocalVSS, bucket_id: str, tmp_path: Path, die_at: int, to: str) -> None:
    contents = make_files(tmp_path / "in", FILES)
    out = tmp_path / "out"
    (tmp_path / "temporary").mkdir()
    out.mkdir()
    (out / "extra").write_text("e")
    (out / "f03").write_text("old")
    bucket = f"mictlanx://{bucket_id}"
    await run(vss.uri, str(tmp_path / "in"), bucket)
    told = {"uri": vss.uri, "source": bucket, "destination": f"file://{out}" if to == "store" else str(out)}
    how = random.Random(die_at).choice(["before", "after"])
    killed = die({**told, "die_at": die_at, "how": how, "temporary": str(tmp_path / "temporary"), "delete_extra": True})
    assert killed
    whole = {name: data for name, data in read(out).items() if not name.startswith(".mictlanx-")}
    assert whole.pop("extra") == b"e"
    assert {name for name, data in whole.items() if data != contents[name]} <= {"f03"}
    result = await run(**told, delete_extra=True)
    assert (result.outcome.failures, result.deleted) == ([], ["extra"])
    assert {name: data for name, data in read(out).items() if not name.startswith(".mictlanx-")} == contents
    assert result.outcome.done == len(FILES) - len(whole) + (whole.get("f03") == b"old"), "what is there is kept"
