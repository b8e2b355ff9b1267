"""
Check that the wheel contains only the package, and the source archive everything that tests need.

Run ``python scripts/check_dist.py dist/*.whl dist/*.tar.gz``. The exit status is 1 if a file is missing or must not
be there.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

PACKAGE = "airflow_provider_mictlanx"
SOURCES = (
    "pyproject.toml",
    "Makefile",
    "noxfile.py",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "SECURITY.md",
    "benchmarks",
    "docs",
    "example_dags",
    "scripts",
    "tests",
)
ADDED_BY_BUILD = {"PKG-INFO", ".gitignore"}


def wheel_faults(names: Iterable[str]) -> list[str]:
    """Return the faults in a wheel's list of files. An ``airflow/`` folder would shadow Airflow itself."""
    names = list(names)
    tops = {name.partition("/")[0] for name in names}
    strays = sorted(top for top in tops if top != PACKAGE and not top.endswith(".dist-info"))
    faults = [f"the wheel must not hold {stray}" for stray in strays]
    faults += [f"the wheel must not hold {name}" for name in names if "__pycache__" in name or name.endswith(".pyc")]
    files = ("py.typed", "__init__.py", "get_provider_info.py", "plugins/web/static/main.js")
    wanted = [f"{PACKAGE}/{name}" for name in files]
    return faults + [f"the wheel lacks {name}" for name in wanted if name not in names]


def sdist_faults(names: Iterable[str]) -> list[str]:
    """Return the faults in a source archive's list of files."""
    inside = {name.split("/")[1] for name in names if "/" in name}
    wanted = {PACKAGE, *SOURCES}
    faults = [f"the source archive lacks {name}" for name in sorted(wanted - inside)]
    return faults + [f"the source archive must not hold {name}" for name in sorted(inside - wanted - ADDED_BY_BUILD)]


def main(paths: list[str]) -> int:
    """Check the given archives and return the exit status."""
    faults = []
    for path in map(Path, paths):
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                faults += wheel_faults(wheel.namelist())
        else:
            with tarfile.open(path) as sdist:
                faults += sdist_faults(sdist.getnames())
        print(f"checked {path.name} ({path.stat().st_size:,} bytes)")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
