"""
Run the tests on each supported version of Airflow and Python, in an environment of its own below ``.nox``.

``make matrix`` runs all of them, and ``make matrix CELL=airflow-2.11-python-3.12`` one. ``make lowest`` uses the oldest
releases that ``pyproject.toml`` allows, and ``make test-dist`` the wheel. Arguments after ``--`` go to pytest.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]

AIRFLOWS = {"2.11": ("3.11", "3.12"), "3.3": ("3.11", "3.12", "3.13")}
CELLS = [
    nox.param(python, airflow, id=f"airflow-{airflow}-python-{python}")
    for airflow, pythons in AIRFLOWS.items()
    for python in pythons
]


@nox.session
@nox.parametrize(("python", "airflow"), CELLS)
def tests(session: nox.Session, airflow: str) -> None:
    """Run all tests, and check that Airflow finds the provider."""
    session.install("--editable", ".[local-vss]", f"apache-airflow=={airflow}.*")
    session.install("--group", "data", f"apache-airflow=={airflow}.*")
    check(session, f"apache-airflow=={airflow}.*")


@nox.session(python="3.11", venv_backend="uv")
@nox.parametrize("airflow", list(AIRFLOWS))
def lowest(session: nox.Session, airflow: str) -> None:
    """Run all tests with the oldest releases that the package allows."""
    package = [".[http2,local-vss]", f"apache-airflow=={airflow}.*"]
    if airflow == "2.11":
        package.append("universal-pathlib<0.3")  # required by Airflow 2.11.0, but missing in its metadata
    session.install("--resolution", "lowest-direct", "--editable", *package)  # the group data would raise fsspec
    installed = str(session.run("uv", "pip", "freeze", "--exclude-editable", silent=True))
    constraints = Path(session.create_tmp()).resolve() / "constraints.txt"  # the group dev would raise rich
    constraints.write_text(installed, encoding="utf-8")
    check(session, "--constraint", str(constraints))


@nox.session(python="3.11", reuse_venv=False)
@nox.parametrize("airflow", list(AIRFLOWS))
def wheel(session: nox.Session, airflow: str) -> None:
    """Install the wheel of ``make dist`` alone, import every module, and start the commands."""
    (built,) = Path("dist").resolve().glob("*.whl")
    script = Path("scripts/import_modules.py").resolve()
    session.install(f"airflow-provider-mictlanx @ {built.as_uri()}", f"apache-airflow=={airflow}.*")
    set_airflow_home(session)
    session.chdir(session.create_tmp())  # so that only the installed package can be imported
    session.run("python", "-I", str(script), "--without-extras")
    session.install(f"airflow-provider-mictlanx[http2,testing] @ {built.as_uri()}", f"apache-airflow=={airflow}.*")
    session.run("python", "-I", str(script))
    for command in ("mictlanx", "mictlanx-local-vss"):
        session.run(command, "--help", silent=True)
    check_provider(session)


@nox.session(python="3.11", reuse_venv=False)
@nox.parametrize("airflow", list(AIRFLOWS))
def example_project(session: nox.Session, airflow: str) -> None:
    """Run the workflow of the example project with the wheel of ``make dist``, in a copy outside the clone."""
    (built,) = Path("dist").resolve().glob("*.whl")
    session.install(f"airflow-provider-mictlanx[testing] @ {built.as_uri()}", f"apache-airflow=={airflow}.*", "pip")
    page = Path("docs/testing-dags.md").read_text(encoding="utf-8")
    (install,) = re.findall(r"^\$ (pip install .*)$", page, re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree("tests/e2e/example_project", folder, ignore=unwanted, dirs_exist_ok=True)
        requirements = Path(folder, "requirements.txt")
        if airflow == "2.11":
            requirements.write_text(re.sub("==3.*", "==2.11.*", requirements.read_text(encoding="utf-8")))
        environment = {"PIP_QUIET": "1", "PYTEST_ADDOPTS": shlex.join(session.posargs)}
        workflow = Path(folder, ".github/workflows/tests.yml").read_text(encoding="utf-8")
        with session.chdir(folder):
            for command in (install, *re.findall(r"^ +- run: (.*)$", workflow, re.MULTILINE)):
                session.run(*shlex.split(command), env=environment)


def check(session: nox.Session, *packages: str) -> None:
    """Run the tests and ``airflow providers list``."""
    session.install("--group", "dev", *packages)
    set_airflow_home(session)
    session.run("python", "-m", "pytest", *(session.posargs or ("-n", "auto")))
    check_provider(session)


def check_provider(session: nox.Session) -> None:
    """Check that ``airflow providers list`` shows the provider."""
    providers = session.run("airflow", "providers", "list", silent=True)
    if providers is not None and "airflow-provider-mictlanx" not in str(providers):  # None: only installed
        session.error(f"airflow providers list does not show the provider:\n{providers}")


def set_airflow_home(session: nox.Session) -> None:
    """Set an Airflow home for the session alone, because another version's ``airflow.cfg`` stops Airflow."""
    home = Path(session.create_tmp()).resolve()
    session.env.update(AIRFLOW_HOME=str(home), AIRFLOW__CORE__LOAD_EXAMPLES="False")
