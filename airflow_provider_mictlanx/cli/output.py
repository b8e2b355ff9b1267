"""Print results as tables, JSON or YAML, and show the progress of long work."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from humanfriendly import format_size

from airflow_provider_mictlanx.batches.progress import Count, observing
from airflow_provider_mictlanx.client.byte_counter import counting_bytes
from airflow_provider_mictlanx.client.texts import clean

Row = Mapping[str, Any]


def print_result(data: Any, table: Sequence[Row] | Sequence[str], form: str) -> None:
    """
    Print a result to standard output.

    :param data: the result for programs
    :param table: the result for people: the rows of a table, or lines
    :param form: ``table``, ``json`` or ``yaml``
    """
    if form == "json":
        text = json.dumps(data, indent=2)
    elif form == "yaml":
        import yaml

        text = yaml.safe_dump(data, sort_keys=False).rstrip()
    elif not table:
        return
    else:
        text = _as_text(table)
    encoding = sys.stdout.encoding
    sys.stdout.write(f"{text}\n".encode(encoding, "backslashreplace").decode(encoding))  # of a terminal without UTF-8
    sys.stdout.flush()


def _as_text(table: Sequence[Row] | Sequence[str]) -> str:
    rows = [row for row in table if not isinstance(row, str)]
    if not rows:
        return "\n".join(clean(line) for line in table if isinstance(line, str))
    from tabulate import tabulate

    lines = [[clean(str(value)) for value in row.values()] for row in rows]
    return str(tabulate(lines, headers=list(rows[0]), tablefmt="plain", disable_numparse=True))


def as_rows(result: Row) -> list[Row]:
    """Return a result as the rows of a table of two columns; lists and empty values are left out."""
    return [
        {"name": name, "value": _as_cell(name, value)}
        for name, value in result.items()
        if not isinstance(value, list) and value not in (None, "", {})
    ]


def _as_cell(name: str, value: Any) -> str:
    if name.endswith("size"):
        return f"{format_size(value)} ({value:,} bytes)"
    if name == "updated_at":
        return format_time(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return str(value)


def format_time(nanoseconds: int) -> str:
    """Return a time of the storage, in nanoseconds since 1970, as ``2026-05-01 12:00:00Z``; empty for 0."""
    return f"{datetime.fromtimestamp(nanoseconds / 1e9, UTC):%Y-%m-%d %H:%M:%SZ}" if nanoseconds else ""


@contextmanager
def show_progress(doing: str, *, size: int | None = None, counts_bytes: bool = True) -> Iterator[None]:
    """
    Show a progress bar on standard error while the block runs, if that is a terminal.

    :param doing: verb, such as ``Reading``
    :param size: bytes of the only object of the work; None for work on many objects, which knows its own size
    :param counts_bytes: whether the bar of many objects shows bytes; else objects
    """
    if not sys.stderr.isatty():
        yield
        return
    from rich import progress as rich
    from rich.console import Console

    amount = (rich.DownloadColumn(), rich.TransferSpeedColumn()) if counts_bytes else (rich.MofNCompleteColumn(),)
    description = rich.TextColumn("{task.description}", markup=False)
    columns = (description, rich.BarColumn(), *amount, rich.TimeRemainingColumn())
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(clean(doing), total=size)

        def observe(count: Count) -> None:
            done, total = (count.done_size, count.size) if counts_bytes else (count.counted, count.balls)
            action = count.doing.capitalize() or doing
            bar.update(
                task, completed=done, total=total, description=f"{action} {count.counted:,} of {count.balls:,} objects"
            )

        with observing(observe) if size is None else counting_bytes(lambda read: bar.advance(task, read)):
            yield
