"""
Compare the packages that this one depends on with the advisories of PyPI, using ``pip-audit`` (``make audit``).

Those that Airflow brings are left to Airflow. The exit status is 0 without known advisories, 1 with some, and 2 if the
advisories could not be fetched.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import requires, version

from packaging.requirements import Requirement

COMMAND = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner", "off"]


def main() -> int:
    """Run the audit and return the exit status."""
    names = {Requirement(text).name for text in requires("airflow-provider-mictlanx") or []}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{name}=={version(name)}\n" for name in sorted(names))
        file.flush()
        command = [*COMMAND, "--format", "json", "--requirement", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason was given"]
        print(f"Audit failed: {reason[0]}", file=sys.stderr)
        return 2
    skipped = [package for package in found if "skip_reason" in package]
    if skipped or not found:
        print(f"Audit incomplete: {len(skipped)} of {len(found)} packages could not be compared:", file=sys.stderr)
        for package in skipped[:5]:
            print(f"  {package['name']}: {package['skip_reason']}", file=sys.stderr)
        return 2
    known = [(package, advisory) for package in found for advisory in package["vulns"]]
    for package, advisory in known:
        fixed = ", ".join(advisory["fix_versions"]) or "no release yet"
        print(f"{package['name']} {package['version']}: {advisory['id']}, fixed in {fixed}")
    print(f"{len(found)} packages were compared, {len(known)} advisories are known")
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main())
