"""
``make audit``: compare what this environment holds with the advisories that PyPI publishes, by ``pip-audit``.

The exit status is 0 where nothing is known, 1 where something is, and 2 where that could not be found out: an audit that could not
ask is none. The package itself is left out, as it is not on PyPI in this version.
"""

from __future__ import annotations

import json
import subprocess
import sys

COMMAND = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off", "--format", "json"]


def main() -> int:
    """Run the audit; gives the exit status."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason was given"]
        print(f"The audit could not be done, so nothing is known: {reason[0]}", file=sys.stderr)
        return 2
    checked = [package for package in found if "skip_reason" not in package]
    skipped = [package for package in found if "skip_reason" in package and not is_editable(package)]
    if skipped or not checked:
        of = (
            f"{len(skipped)} of {len(skipped) + len(checked)} packages could not be compared, so the audit says nothing"
        )
        print(f"{of}; the first reasons:", file=sys.stderr)
        for package in skipped[:5]:
            print(f"  {package['name']}: {package['skip_reason']}", file=sys.stderr)
        return 2
    known = [(package, advisory) for package in checked for advisory in package["vulns"]]
    for package, advisory in known:
        mended = ", ".join(advisory["fix_versions"]) or "no release yet"
        print(f"{package['name']} {package['version']}: {advisory['id']}, mended in {mended}")
    print(f"{len(checked)} packages were compared, {len(known)} advisories are known")
    return 1 if known else 0


def is_editable(package: dict[str, str]) -> bool:
    """Tell whether a package was left out because it is this project."""
    return "editable" in package["skip_reason"]


if __name__ == "__main__":
    sys.exit(main())
