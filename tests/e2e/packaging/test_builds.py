"""Build the package as maintainers, CI and packagers do. ``make test-dist`` runs these tests after ``make dist``."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.support.pages import blocks

ROOT = Path(__file__).resolve().parents[3]
UV = str(Path(sys.prefix) / "bin" / "uv")


def clone(target: Path, *options: str) -> Path:
    subprocess.run(["git", "clone", "--quiet", "--no-tags", *options, ROOT.as_uri(), str(target)], check=True)
    return target


def build_wheel(folder: Path, output: Path, **environment: str) -> Path:
    command = [UV, "build", "--wheel", "--quiet", "--python", sys.executable, "--out-dir", str(output), str(folder)]
    subprocess.run(command, check=True, env={**os.environ, **environment})
    (wheel,) = output.glob("*.whl")
    return wheel


def test_wheel_of_a_tag_has_its_version(tmp_path: Path) -> None:
    source = clone(tmp_path / "clone")
    identity = ["-c", "user.name=Tests", "-c", "user.email=tests@example.org"]
    subprocess.run(["git", *identity, "-C", str(source), "tag", "-a", "v9.8.7", "-m", "9.8.7"], check=True)
    assert build_wheel(source, tmp_path / "out").name == "airflow_provider_mictlanx-9.8.7-py3-none-any.whl"


def test_wheel_of_a_shallow_clone_without_tags_is_a_dev_one(tmp_path: Path) -> None:
    wheel = build_wheel(clone(tmp_path / "clone", "--depth", "1"), tmp_path / "out")
    assert re.fullmatch(r"airflow_provider_mictlanx-[\d.]+\.dev1-py3-none-any\.whl", wheel.name)


def test_wheel_of_the_source_archive_needs_no_git(tmp_path: Path) -> None:
    """It is the wheel in ``dist/``, byte for byte."""
    (archive,) = (ROOT / "dist").glob("*.tar.gz")
    (built,) = (ROOT / "dist").glob("*.whl")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    source = tmp_path / archive.name.removesuffix(".tar.gz")
    wheel = build_wheel(source, tmp_path / "out", PATH="/nonexistent")
    assert (wheel.name, wheel.read_bytes()) == (built.name, built.read_bytes())


def test_commands_of_the_matrix_select_sessions() -> None:
    """The sessions take hours, so nox only lists them."""
    (commands,) = (block for block in blocks(ROOT / "docs" / "development.md", "bash") if "make matrix" in block)
    selected = []
    for line in commands.splitlines():
        make = ["make", "-n", "--no-print-directory", *shlex.split(line, comments=True)[1:]]
        shown = shlex.split(subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
        nox = [*shown[: shown.index("--")], "--list"]
        listed = subprocess.run(nox, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        selected.append(re.findall(r"^\* (.*) ->", listed, re.MULTILINE))
    assert len(selected[0]) == 5
    assert selected[1:] == [["tests(airflow-2.11-python-3.12)"], ["lowest(airflow='2.11')"]]
