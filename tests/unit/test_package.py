"""The package as it is installed and described: metadata, entry points, documentation, and what is packed."""

from __future__ import annotations

import ast
import importlib
import io
import os
import pkgutil
import re
import runpy
import subprocess
import tarfile
import zipfile
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_mictlanx
from tests.support.pages import blocks

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(airflow_provider_mictlanx.__path__, airflow_provider_mictlanx.__name__ + ".")
)
PUBLIC = ("client", "hooks.mictlanx", "operators.mictlanx", "sensors.mictlanx", "triggers.mictlanx")
AIRFLOW_3 = {"MictlanXObjectEventTrigger", "MictlanXBulkCompleteEventTrigger"}
if not version("apache-airflow").startswith("2."):
    PUBLIC = (*PUBLIC, "triggers.events")
    AIRFLOW_3 = set()
NEEDS_AIRFLOW_3 = runpy.run_path(str(ROOT / "scripts" / "import_modules.py"))["NEEDS_AIRFLOW_3"]
CLASS_NAME = re.compile(r"\b(?:MictlanX|Bulk|Async)[A-Z]?\w*(?:Operator|Sensor|Hook|Trigger|Client|Router|Peer)\b")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def heading_anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_provider_entry_point_resolves() -> None:
    (entry_point,) = (
        e for e in entry_points(group="apache_airflow_provider") if e.module.startswith("airflow_provider_mictlanx")
    )
    info = entry_point.load()()
    assert info["package-name"] == "airflow-provider-mictlanx"
    assert info["versions"] == [airflow_provider_mictlanx.__version__]


def test_console_script_resolves() -> None:
    (entry_point,) = entry_points(group="console_scripts", name="mictlanx-local-vss")
    assert callable(entry_point.load())


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports(name: str) -> None:
    if AIRFLOW_3 and NEEDS_AIRFLOW_3.search(name):
        pytest.skip("it needs Airflow 3")
    assert importlib.import_module(name).__doc__, f"{name} has no docstring"


@pytest.mark.parametrize("name", PUBLIC)
def test_public_modules_are_there(name: str) -> None:
    assert f"airflow_provider_mictlanx.{name}" in MODULES


def test_package_is_marked_as_typed() -> None:
    assert (Path(airflow_provider_mictlanx.__path__[0]) / "py.typed").exists()


def test_dag_of_the_readme_loads(tmp_path: Path) -> None:
    (code,) = (block for block in blocks(ROOT / "README.md", "python") if "with DAG(" in block)
    file = tmp_path / "nightly.py"
    file.write_text(code, encoding="utf-8")
    dag = runpy.run_path(str(file))["dag"]
    assert [task.task_id for task in dag.topological_sort()] == ["upload", "ready", "fetch"]


def test_shell_of_the_readme_copies_the_dag_with_own_folders(tmp_path: Path) -> None:
    (block,) = (block for block in blocks(ROOT / "README.md", "bash") if "sed" in block)
    script = block.partition("airflow standalone")[0]
    subprocess.run(["bash", "-ec", script], cwd=ROOT, env={**os.environ, "HOME": str(tmp_path)}, check=True)
    upload, ready, fetch = runpy.run_path(str(tmp_path / "airflow/dags/nightly.py"))["dag"].topological_sort()
    assert (upload.source, ready.bulk_id, fetch.output_path) == ("/your/folder", upload.bulk_id, "/your/copies")


@pytest.mark.parametrize(
    ("example", "routers", "token", "client_id"),
    [
        (0, ["storage.example.org"], None, "airflow"),
        (1, ["a.example.org", "b.example.org"], "THE-TOKEN", "nightly"),
        (2, ["127.0.0.1"], None, "airflow"),
    ],
)
def test_connections_of_the_readme_are_understood(
    example: int, routers: list[str], token: str | None, client_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook

    examples = re.findall(r"AIRFLOW_CONN_MICTLANX_DEFAULT='([^']*)'", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(examples) == 3
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", examples[example])
    settings = MictlanXHook().settings
    assert [router.host for router in settings.uri.routers] == routers
    assert (settings.token, settings.client_id) == (token, client_id)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_python_of_the_pages_compiles(page: Path) -> None:
    for code in blocks(page, "python"):
        compile(code, page_id(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_of_the_pages_resolve(page: Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else page.parent / path
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in heading_anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_linked_from_the_start_page() -> None:
    """A page that the site fills with a file of the root is linked as that file."""
    start = ROOT / "docs" / "index.md"
    linked = {(start.parent / link).resolve() for link in LINK.findall(start.read_text(encoding="utf-8"))}
    pages = [page for page in start.parent.glob("*.md") if page != start]
    in_root = {page: ROOT / f"{page.stem.upper()}.md" for page in pages}
    assert [page.name for page in pages if page not in linked and in_root[page] not in linked] == []


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "example_dags").glob("*.py"))], ids=page_id)
def test_classes_that_are_named_exist(page: Path) -> None:
    modules = [importlib.import_module(f"airflow_provider_mictlanx.{name}") for name in PUBLIC]
    named = set(CLASS_NAME.findall(page.read_text(encoding="utf-8").partition("## Renamed")[0]))
    assert {name for name in named if not any(hasattr(module, name) for module in modules)} <= AIRFLOW_3


def test_readme_has_every_operator_hook_and_sensor() -> None:
    from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
    from tests.support.public_names import OPERATORS, SENSORS

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    public = [MictlanXHook, *OPERATORS, *SENSORS]
    names = [f"{kind.__module__.removeprefix('airflow_provider_mictlanx.')}.{kind.__name__}" for kind in public]
    assert [name for name in names if f"`{name}`" not in readme] == []
    rows = re.findall(r"^\| `(\w+\.\w+\.\w+)` \|.*\| (.*)\|$", readme, re.MULTILINE)
    assert len(rows) == len(dict(rows)), "each of them once"
    templated = {name: re.findall(r"`(\w+)`", arguments) for name, arguments in rows}
    for name, kind in zip(names, public, strict=True):
        fields = [field for field in getattr(kind, "template_fields", ()) if field != "mictlanx_conn_id"]
        assert templated[name] == fields


def test_marks_of_the_example_dags_are_paired() -> None:
    for file in (ROOT / "example_dags").glob("*.py"):
        marks = re.findall(r"# \[(START|END) (howto_\w+)\]", file.read_text(encoding="utf-8"))
        assert marks, file
        starts, ends = marks[::2], marks[1::2]
        assert [("START", name) for _, name in ends] == starts
        assert {kind for kind, _ in ends} == {"END"}


def test_changelog_is_kept_as_keep_a_changelog_says() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)[1:]
    assert releases[0] == "[Unreleased]"
    assert [name for name in releases[2::2] if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", name)] == []
    for changes in releases[1::2]:
        kinds = re.findall(r"^### (.*)$", changes, re.MULTILINE)
        assert len(kinds) == len(set(kinds))
        assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


class TestCheckDist:
    """``scripts/check_dist.py`` finds what does not belong into the archives, and what is missing."""

    PY_TYPED = "airflow_provider_mictlanx/py.typed"

    @pytest.fixture
    def check(self) -> dict[str, Any]:
        return runpy.run_path(str(ROOT / "scripts" / "check_dist.py"))

    def wheel(self, names: set[str]) -> zipfile.ZipFile:
        archive = zipfile.ZipFile(io.BytesIO(), "w")
        for name in [*names, "airflow_provider_mictlanx-1.dist-info/METADATA"]:
            archive.writestr(name, "")
        return archive

    def sdist(self, names: set[str]) -> tarfile.TarFile:
        archive = tarfile.open(fileobj=io.BytesIO(), mode="w")  # noqa: SIM115, in memory
        for name in names:
            archive.addfile(tarfile.TarInfo(f"airflow_provider_mictlanx-1/{name}"))
        return archive

    def test_wheel_with_the_package_alone_is_accepted(self, check: dict[str, Any]) -> None:
        assert check["wheel_faults"](self.wheel(check["package_files"]())) == []

    @pytest.mark.parametrize("stray", ["airflow/__init__.py", "tests/test_a.py", "airflow_provider_mictlanx/a.pyc"])
    def test_wheel_with_a_stray_file_is_refused(self, check: dict[str, Any], stray: str) -> None:
        wheel = self.wheel({*check["package_files"](), stray})
        assert check["wheel_faults"](wheel) == [f"the wheel must not contain {stray}"]

    def test_wheel_without_its_type_mark_is_refused(self, check: dict[str, Any]) -> None:
        wheel = self.wheel(check["package_files"]() - {self.PY_TYPED})
        assert check["wheel_faults"](wheel) == [f"the wheel lacks {self.PY_TYPED}"]

    def test_sdist_is_compared_with_its_list_and_the_package(self, check: dict[str, Any]) -> None:
        complete = {*check["package_files"](), *check["SOURCES"]} - {"airflow_provider_mictlanx"}
        assert check["sdist_faults"](self.sdist(complete)) == []
        other = complete - {"Makefile", self.PY_TYPED} | {".venv/a.py"}
        assert check["sdist_faults"](self.sdist(other)) == [
            "the source archive lacks Makefile",
            f"the source archive lacks {self.PY_TYPED}",
            "the source archive must not contain .venv",
        ]

    def test_release_of_another_version_is_refused(self, check: dict[str, Any]) -> None:
        assert check["release_faults"]("0.0.1.dev7", "9.9.9") == [
            "the version must be 9.9.9, got 0.0.1.dev7",
            "CHANGELOG.md lacks the section [9.9.9]",
        ]
