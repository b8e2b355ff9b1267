"""The pages of the client: their snippets run against the local VSS, and their tables say what is so."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx import client as package
from airflow_provider_mictlanx.client import AsyncClient, MictlanXError
from tests.support.clients import checked_client
from tests.support.documented_surface import client_table
from tests.support.official_surface import PLAIN, REQUESTS, parse_lines
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import pattern
from tests.support.vss import LocalVSS

DOCS = Path(__file__).parents[3] / "docs"
ADDRESS = "127.0.0.1:60666"


def snippets(page: str) -> list[str]:
    found = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    assert found
    return found


def table_under(page: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table under a heading, without its head."""
    text = (DOCS / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = re.search(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    assert table
    lines = table[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def run(script: str, vss: LocalVSS, bucket_id: str, folder: Path) -> str:
    """Run a script as a user does, in a folder with a picture in it."""
    (folder / "frame.jpg").write_bytes(pattern(1000))
    script = script.replace(ADDRESS, f"127.0.0.1:{vss.port}").replace('"frames"', f'"{bucket_id}"')
    script = script.replace('"127.0.0.1", 60666', f'"127.0.0.1", {vss.port}')
    (folder / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "script.py"],
        cwd=folder,
        env={"MICTLANX_LOG_PATH": "", "PATH": "", "PYTHONPATH": str(DOCS.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def as_script(fragments: list[str], context: str) -> str:
    """Put fragments into a coroutine, one after the other, each in the given context."""
    body = "\n".join(f"{context}\n{textwrap.indent(fragment, '    ')}" for fragment in fragments)
    return f"import asyncio\n\nasync def main():\n{textwrap.indent(body, '    ')}\n\nasyncio.run(main())\n"


def test_the_quick_start_runs(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    whole = snippets("client.md")[0]
    assert "asyncio.run(" in whole
    assert run(whole, vss, bucket_id, tmp_path) == "True\nb'the bytes'\n"


def test_the_other_snippets_run_in_their_order(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    _, *fragments = snippets("client.md")
    context = (
        "from airflow_provider_mictlanx.client import AsyncClient\n"
        f'async with AsyncClient("mictlanx://router-0@{ADDRESS}/?protocol=http", "docs", debug=False) as client:'
    )
    said = run(as_script(fragments, context), vss, bucket_id, tmp_path)
    assert "0 1000\n" in said
    assert "1 1 KB ['frame']\n" in said
    assert "['peer-0', 'peer-1', 'peer-2']\n" in said


def test_the_page_for_those_who_change_runs(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    imports, *fragments = snippets("from-the-official-client.md")
    context = f'uri = "mictlanx://router-0@{ADDRESS}/?protocol=http"\nif True:'
    said = run(imports + as_script(fragments, context), vss, bucket_id, tmp_path)
    assert "_0 1000000\n" in said
    assert "2026/05/frame 1.jpg" in said


def public_methods(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, inspect.isroutine) if not name.startswith("_")}


def names_after(text: str, *starts: str) -> set[str]:
    """Return the names in code between the last of these beginnings and the end of its sentence, row or list."""
    for start in starts:
        text = text.split(start, 1)[1]
    return set(re.findall(r"`(\w+)`", re.split(r"\.\s|\|\n", text)[0]))


def test_additional_methods_are_on_the_page() -> None:
    text = (DOCS / "from-the-official-client.md").read_text()
    official = {documented.name for documented in client_table()}
    assert names_after(text, "Additional methods of\n`AsyncClient` are") == public_methods(AsyncClient) - official


def test_additions_to_routers_and_peers_are_on_the_page() -> None:
    page = (DOCS / "from-the-official-client.md").read_text()
    further: set[str] = set()
    own: set[str] = set()
    for owner, requests in REQUESTS.items():
        kind = getattr(package, owner)
        for documented in requests:
            names = [name for name in inspect.signature(getattr(kind, documented.name)).parameters if name != "self"]
            further |= set(names[len(documented.parameters) :])
        own |= public_methods(kind) - {documented.name for documented in [*requests, *parse_lines(PLAIN[owner])]}
    calls = {documented.name for requests in REQUESTS.values() for documented in requests}
    assert names_after(page, "| additional arguments |") - calls == further
    assert names_after(page, "| additional methods |") - {"put_metadata"} == own


def test_every_method_is_on_the_page() -> None:
    text = (DOCS / "client.md").read_text()
    assert {name for name in public_methods(AsyncClient) if not re.search(rf"`{name}\(|`{name}`", text)} == set()
    named = {
        row[0].split("(")[0].strip("`")
        for title in ("Writing", "Reading", "Listing and metadata", "Deleting")
        for row in table_under("client.md", title)
    }
    assert {name for name in named if not (hasattr(AsyncClient, name) or hasattr(package, name))} == set()


def test_constructor_parameters_and_defaults_are_documented() -> None:
    parameters = inspect.signature(AsyncClient).parameters
    rows = table_under("client.md", "The constructor")
    documented = {name: row[1] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert set(documented) == set(parameters)
    for name in ("debug", "max_workers", "verify", "token", "headers"):
        assert f"`{parameters[name].default!r}`" == documented[name]


def test_the_table_of_errors() -> None:
    rows = table_under("client.md", "Errors")
    documented = {row[0].strip("`"): (int(row[1]), int(row[2])) for row in rows}
    errors = {
        name: kind for name, kind in vars(package).items() if isinstance(kind, type) and issubclass(kind, MictlanXError)
    }
    assert documented == {name: (kind.default_error_code, kind.default_status_code) for name, kind in errors.items()}
    for name, _, _, meaning in rows:
        if base := re.match(r"an? `(\w+Error|FileAlreadyExists)`:", meaning):
            assert issubclass(errors[name.strip("`")], errors[base[1]])


# -- requests ------------------------------------------------------------------------------------------------------------

N = 4
DATA = pattern(1000)
Call = Callable[[AsyncClient, str, Path], Awaitable[Any]]


async def _read_chunks(client: AsyncClient, bucket_id: str, _: Path) -> None:
    async for _metadata, _data in client.get_chunks(bucket_id, "ball"):
        pass


CALLS: dict[str, Call] = {
    "`put`, a new object": lambda client, bucket, _: client.put(bucket, "new", DATA, chunk_size=250),
    "`put`, the same bytes stored": lambda client, bucket, _: client.put(bucket, "ball", DATA),
    "`put`, other bytes stored": lambda client, bucket, _: client.put(bucket, "ball", b"other"),
    "`copy`, a new object": lambda client, bucket, _: client.copy(bucket, "ball", bucket, "new"),
    "`copy`, the same bytes stored": lambda client, bucket, _: client.copy(bucket, "ball", bucket, "ball"),
    "`get`": lambda client, bucket, _: client.get(bucket, "ball"),
    "`get_chunks`": _read_chunks,
    "`get_to_file`": lambda client, bucket, folder: client.get_to_file(bucket, "ball", str(folder)),
    "`get`, cached": lambda client, bucket, _: client.get(bucket, "ball"),
    "`get_to_file`, file exists": lambda client, bucket, folder: client.get_to_file(bucket, "ball", str(folder)),
    "`get_chunk`": lambda client, bucket, _: client.get_chunk(bucket, "ball", 2),
    "`exists`": lambda client, bucket, _: client.exists(bucket, "ball"),
    "`get_metadata`": lambda client, bucket, _: client.get_metadata(bucket, "ball"),
    "`exists`, absent": lambda client, bucket, _: client.exists(bucket, "absent"),
    "`exists`, `check_storage`": lambda client, bucket, _: client.exists(bucket, "ball", check_storage=True),
    "`get_metadata_by_key`": lambda client, bucket, _: client.get_metadata_by_key(bucket, "ball_0"),
    "`list_balls`": lambda client, bucket, _: client.list_balls(bucket),
    "`get_bucket_metadata`": lambda client, bucket, _: client.get_bucket_metadata(bucket),
    "`get_chunks_by_bucket_id`": lambda client, bucket, _: client.get_chunks_by_bucket_id(bucket),
    "`delete`": lambda client, bucket, _: client.delete("ball", bucket),
    "`delete`, absent": lambda client, bucket, _: client.delete("absent", bucket),
    "`delete_by_key`": lambda client, bucket, _: client.delete_by_key("ball_0", bucket),
    "`delete_bucket`, one object": lambda client, bucket, _: client.delete_bucket(bucket),
}


def documented_requests() -> dict[str, str]:
    """Return the table of requests; a row that names several calls counts for each."""
    rows: dict[str, str] = {}
    for call, requests in table_under("client.md", "Requests"):
        several = re.fullmatch(r"`\w+`(, `\w+`)+", call) and "check_storage" not in call
        rows.update(dict.fromkeys(call.split(", ") if several else [call], requests))
    return rows


def test_every_row_of_the_requests_is_tried() -> None:
    assert set(documented_requests()) == set(CALLS)


@pytest.mark.parametrize("call", CALLS)
async def test_number_of_requests(vss: LocalVSS, bucket_id: str, tmp_path: Path, call: str) -> None:
    formula = documented_requests()[call]
    fixed, per_chunk = re.fullmatch(r"(\d+)(?: \+ (\d*)n)?", formula).groups()  # type: ignore[union-attr]
    expected = int(fixed) + (N * int(per_chunk or 1) if per_chunk is not None else 0)
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "ball", DATA, chunk_size=250)).unwrap()
        assert len(RawRequests(vss).listed(bucket_id, "ball")) == N
        if call == "`get`, cached":
            await client.get(bucket_id, "ball")
        if call == "`get_to_file`, file exists":
            await client.get_to_file(bucket_id, "ball", str(tmp_path))
        vss.reset_requests()
        await CALLS[call](client, bucket_id, tmp_path)
        assert len(vss.requests()) == expected
