"""
Check the wheel and the source archive in ``dist/`` (``make dist``).

The wheel must contain the package and nothing else, and describe what ``pyproject.toml`` declares. The source archive
must contain the package and everything that tests and documentation need. For a release, run ``make dist
VERSION=1.2.3``: both archives must have this version, and the changelog a section for it. The exit status is 1 after a
fault.
"""

from __future__ import annotations

import argparse
import re
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from email.message import Message
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "airflow_provider_mictlanx"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SOURCES = {path[1:] for path in PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]}
ADDED_BY_BUILD = {"PKG-INFO", "pyproject.toml", ".gitignore"}


def wheel_faults(wheel: zipfile.ZipFile) -> list[str]:
    """Return the faults in a wheel's files. A folder ``airflow/`` would shadow Airflow itself."""
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = package_files()
    faults = [f"the wheel must not contain {name}" for name in sorted(packed - wanted)]
    return faults + [f"the wheel lacks {name}" for name in sorted(wanted - packed)]


def metadata_faults(wheel: zipfile.ZipFile) -> list[str]:
    """Return the differences between a wheel's metadata and ``pyproject.toml``, and broken links of its description."""
    project = PYPROJECT["project"]
    entry_points = ConfigParser(delimiters="=")
    entry_points.optionxform = str  # type: ignore[assignment,method-assign]  # keep upper case
    entry_points.read_string(read_info(wheel, "entry_points.txt"))
    metadata = wheel_metadata(wheel)
    found = {
        "name": metadata["Name"],
        "license": metadata["License-Expression"],
        "requires-python": metadata["Requires-Python"],
        "entry points": {group: dict(entry_points[group]) for group in entry_points.sections()},
        "licence text": read_info(wheel, "licenses/LICENSE"),
    }
    wanted = {
        **{name: project[name] for name in ("name", "license", "requires-python")},
        "entry points": {**project["entry-points"], "console_scripts": project["scripts"]},
        "licence text": (ROOT / "LICENSE").read_text(encoding="utf-8"),
    }
    faults = [f"{name} must be {wanted[name]}, got {found[name]}" for name in wanted if found[name] != wanted[name]]
    links = re.findall(r"\]\((?!https?:|#)([^)]*)", str(metadata.get_payload()))
    return faults + [f"the description on PyPI must not have the relative link {link}" for link in links]


def sdist_faults(sdist: tarfile.TarFile) -> list[str]:
    """Return the faults in a source archive's files."""
    names = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
    tops = {name.partition("/")[0] for name in names}
    faults = [f"the source archive lacks {name}" for name in sorted((SOURCES - tops) | (package_files() - names))]
    return faults + [f"the source archive must not contain {name}" for name in sorted(tops - SOURCES - ADDED_BY_BUILD)]


def release_faults(version: str, wanted: str) -> list[str]:
    """Return the faults of a release: archives of another version, or a changelog without its section."""
    faults = [] if version == wanted else [f"the version must be {wanted}, got {version}"]
    if f"\n## [{wanted}] - " not in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        faults.append(f"CHANGELOG.md lacks the section [{wanted}]")
    return faults


def package_files() -> set[str]:
    """Return the files of the package in this folder."""
    files = (path.relative_to(ROOT) for path in (ROOT / PACKAGE).rglob("*") if path.is_file())
    return {path.as_posix() for path in files if "__pycache__" not in path.parts}


def wheel_metadata(wheel: zipfile.ZipFile) -> Message:
    """Return what a wheel says of itself."""
    return Parser().parsestr(read_info(wheel, "METADATA"))


def read_info(wheel: zipfile.ZipFile, name: str) -> str:
    """Return a text from a wheel's folder ``.dist-info``."""
    (folder,) = {path.partition("/")[0] for path in wheel.namelist() if ".dist-info/" in path}
    return wheel.read(f"{folder}/{name}").decode()


def main() -> int:
    """Check the archives and return the exit status."""
    parser = argparse.ArgumentParser(description="Check the wheel and the source archive in dist/.")
    parser.add_argument("--version", help="the version to be released")
    wanted = parser.parse_args().version
    (wheel_path,) = (ROOT / "dist").glob("*.whl")
    (sdist_path,) = (ROOT / "dist").glob("*.tar.gz")
    with zipfile.ZipFile(wheel_path) as wheel, tarfile.open(sdist_path) as sdist:
        version = wheel_metadata(wheel)["Version"]
        faults = wheel_faults(wheel) + metadata_faults(wheel) + sdist_faults(sdist)
    if sdist_path.name != f"{PACKAGE}-{version}.tar.gz":
        faults.append(f"the wheel has version {version}, the source archive is {sdist_path.name}")
    if wanted:
        faults += release_faults(version, wanted)
    for path in (wheel_path, sdist_path):
        print(f"checked {path.name} ({path.stat().st_size:,} bytes)")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
