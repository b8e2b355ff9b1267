"""
Import every module of the installed package (``make test-dist``).

With ``--without-extras``, modules that need an extra are left out.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from importlib.metadata import version

import airflow_provider_mictlanx as package

NEEDS_EXTRA = re.compile(r"\.(local_vss|testing)\b")
NEEDS_AIRFLOW_3 = re.compile(r"\.(triggers\.events|bundles\.mictlanx|plugins\.web\.\w+)$")


def main() -> None:
    """Import the modules that this Airflow and these extras allow, and report how many."""
    (folder,) = package.__path__
    if "site-packages" not in folder:
        sys.exit(f"the package must be installed, got {folder}")
    names = [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    if "--without-extras" in sys.argv:
        names = [name for name in names if not NEEDS_EXTRA.search(name)]
    if version("apache-airflow").startswith("2."):
        names = [name for name in names if not NEEDS_AIRFLOW_3.search(name)]
    for name in names:
        importlib.import_module(name)
    print(f"imported {len(names)} modules of {package.__version__}, Airflow {version('apache-airflow')}")


if __name__ == "__main__":
    main()
