"""What the package's source must not do, read from its syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import airflow_provider_mictlanx

SOURCE = Path(airflow_provider_mictlanx.__file__).parent

CALLS = {"eval", "exec", "compile", "__import__", "input", "breakpoint"}
MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "shelve",
    "marshal",
    "subprocess",
    "pty",
    "telnetlib",
    "ftplib",
    "code",
}
ATTRIBUTES = {
    ("os", "system"),
    ("os", "popen"),
    ("os", "execv"),
    ("os", "spawnv"),
    ("tempfile", "mktemp"),
    ("yaml", "load"),
}
INSECURE = {"_create_unverified_context", "_create_default_https_context"}


def offences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Return the lines that break a rule."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            yield node.lineno, node.func.id
        if isinstance(node, ast.Call):
            yield from ((node.lineno, "shell=") for keyword in node.keywords if keyword.arg == "shell")
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names if name.name.split(".")[0] in MODULES)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield node.lineno, node.module or ""
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if (owner, node.attr) in ATTRIBUTES or node.attr in INSECURE:
                yield node.lineno, f"{owner}.{node.attr}"


def test_the_package_evaluates_unpickles_and_runs_nothing() -> None:
    files = list(SOURCE.rglob("*.py"))
    assert len(files) > 50
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {what}"
        for path in files
        if path.name != "testing.py"  # it starts the local VSS
        for line, what in offences(ast.parse(path.read_text(), path.name))
    ]
    assert found == []


def test_every_logger_of_the_package_is_cleaned() -> None:
    """Only ``client/texts.py`` makes loggers; the local VSS is a server, and logs what it likes."""
    found = [
        f"{path.relative_to(SOURCE)}: {ast.unparse(node)}"
        for path in SOURCE.rglob("*.py")
        if path.parent.name != "local_vss"
        for node in ast.walk(ast.parse(path.read_text(), path.name))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger")
    ]
    assert sorted(found) == [
        "client/texts.py: logging.getLogger(name)",
        "hooks/mictlanx.py: logging.getLogger('httpx')",
    ]


def test_the_scan_sees_what_it_is_for() -> None:
    bad = """
import pickle, os, ssl
from subprocess import run
eval("1"); exec("1"); run("ls", shell=True); os.system("ls"); ssl._create_unverified_context()
"""
    assert {what for _, what in offences(ast.parse(bad))} == {
        "pickle",
        "subprocess",
        "eval",
        "exec",
        "shell=",
        "os.system",
        "ssl._create_unverified_context",
    }
