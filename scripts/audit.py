"""
Compare the installed packages with the advisories of PyPI, using ``pip-audit`` (``make audit``).

The exit status is 0 without known advisories, 1 with some, and 2 if the advisories could not be fetched. The package
itself is skipped, because this version is not on PyPI.
"""

from __future__ import annotations

import json
import subprocess
import sys

COMMAND = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off", "--format", "json"]


def main() -> int:
    """Run the audit and return the exit status."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason was given"]
        print(f"Audit failed: {reason[0]}", file=sys.stderr)
        return 2
    checked = [package for package in found if "skip_reason" not in package]
    skipped = [package for package in found if "skip_reason" in package and not is_editable(package)]
    if skipped or not checked:
        total = len(skipped) + len(checked)
        print(f"Audit incomplete: {len(skipped)} of {total} packages could not be compared:", file=sys.stderr)
        for package in skipped[:5]:
            print(f"  {package['name']}: {package['skip_reason']}", file=sys.stderr)
        return 2
    known = [(package, advisory) for package in checked for advisory in package["vulns"]]
    for package, advisory in known:
        fixed = ", ".join(advisory["fix_versions"]) or "no release yet"
        print(f"{package['name']} {package['version']}: {advisory['id']}, fixed in {fixed}")
    print(f"{len(checked)} packages were compared, {len(known)} advisories are known")
    return 1 if known else 0


def is_editable(package: dict[str, str]) -> bool:
    """Return whether a package was skipped because it is this project."""
    return "editable" in package["skip_reason"]


if __name__ == "__main__":
    sys.exit(main())
