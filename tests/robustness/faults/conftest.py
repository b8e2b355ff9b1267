"""Fixtures of the fault suite, and the way of its results into ``docs/faults.md``."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.robustness.faults import results
from tests.robustness.faults.space import Space, running
from tests.support.vss import LocalVSS


@pytest.fixture(scope="session")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    """The storage space of this process."""
    # Without a cache of its own: what a cache does is the hostile router's part.
    options = ("--cache-size", "1KiB")
    with LocalVSS(tmp_path_factory.mktemp("vss"), routers=2, options=options) as vss, running(vss) as space:
        yield space


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was found into the page, where that is asked for."""
    if os.environ.get(results.WRITE) and not hasattr(session.config, "workerinput"):
        results.write(_found)


_found: results.Results = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the cells' results, of all processes."""
    for name, value in report.user_properties:
        if name == results.PROPERTY and report.when == "call":
            fault, operation, regime, outcome = str(value).split("\t")
            _found[fault, operation, regime] = outcome
