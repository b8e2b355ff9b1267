"""
Tests that need root, and are no part of ``make test``: ``make test-privileged``, as ``.ci/run`` does.

They mount small file systems in memory and start processes of another user. Where that is not possible they are skipped, with
the reason in the summary; ``MICTLANX_REQUIRE_PRIVILEGED=1`` makes a failure of that.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def cannot(reason: str) -> None:
    if os.environ.get("MICTLANX_REQUIRE_PRIVILEGED") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        cannot("needs root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system in memory: ``small_disk("2m")`` gives its folder."""
    mounted: list[Path] = []

    def mount(size: str, *options: str) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        how = ",".join([f"size={size}", *options])
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(folder)], capture_output=True, text=True)
        if done.returncode:
            cannot(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
