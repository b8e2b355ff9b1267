"""The package as it is installed and described: metadata, entry points, documentation, and what is packed."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import runpy
import subprocess
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import airflow_provider_mictlanx

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(airflow_provider_mictlanx.__path__, airflow_provider_mictlanx.__name__ + ".")
)
PUBLIC = ("client", "hooks.mictlanx", "operators.mictlanx", "sensors.mictlanx", "triggers.mictlanx")
AIRFLOW_3 = {"MictlanXObjectEventTrigger", "MictlanXBulkCompleteEventTrigger"}
if not version("apache-airflow").startswith("2."):
    PUBLIC = (*PUBLIC, "triggers.events")
    AIRFLOW_3 = set()
CLASS_NAME = re.compile(r"\b(?:MictlanX|Bulk|Async)[A-Z]?\w*(?:Operator|Sensor|Hook|Trigger|Client|Router|Peer)\b")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def heading_anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_version_of_the_distribution_is_the_packages() -> None:
    assert version("airflow-provider-mictlanx") == airflow_provider_mictlanx.__version__


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
    if AIRFLOW_3 and re.search(r"\.(triggers\.events|bundles\.mictlanx|plugins\.web\.\w+)$", name):
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
    links = LINK.findall((ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"} <= set(links)


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "example_dags").glob("*.py"))], ids=page_id)
def test_classes_that_are_named_exist(page: Path) -> None:
    modules = [importlib.import_module(f"airflow_provider_mictlanx.{name}") for name in PUBLIC]
    named = set(CLASS_NAME.findall(page.read_text(encoding="utf-8")))
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


class TestCheckDist:
    """``scripts/check_dist.py`` finds what does not belong into a wheel."""

    GOOD = ("py.typed", "__init__.py", "get_provider_info.py", "plugins/web/static/main.js")

    @pytest.fixture
    def check(self) -> dict[str, object]:
        return runpy.run_path(str(ROOT / "scripts" / "check_dist.py"))

    def names(self, *more: str) -> list[str]:
        inside = [f"airflow_provider_mictlanx/{name}" for name in self.GOOD]
        return [*inside, "airflow_provider_mictlanx-0.1.0.dist-info/METADATA", *more]

    def test_good_wheel(self, check) -> None:
        assert check["wheel_faults"](self.names()) == []

    @pytest.mark.parametrize("stray", ["airflow/__init__.py", "tests/test_a.py", "example_dags/a.py"])
    def test_stray_folder(self, check, stray: str) -> None:
        assert check["wheel_faults"](self.names(stray)) == [f"the wheel must not hold {stray.split('/')[0]}"]

    def test_missing_type_mark(self, check) -> None:
        names = [name for name in self.names() if not name.endswith("py.typed")]
        assert check["wheel_faults"](names) == ["the wheel lacks airflow_provider_mictlanx/py.typed"]

    def test_incomplete_source_archive(self, check) -> None:
        names = [f"a-1/{name}" for name in ("airflow_provider_mictlanx/__init__.py", "PKG-INFO", *check["SOURCES"][1:])]
        assert check["sdist_faults"](names) == ["the source archive lacks pyproject.toml"]

    def test_stray_folder_in_the_source_archive(self, check) -> None:
        names = [
            f"a-1/{name}" for name in ("airflow_provider_mictlanx/__init__.py", *check["SOURCES"], ".venv/tests/a.py")
        ]
        assert check["sdist_faults"](names) == ["the source archive must not hold .venv"]
