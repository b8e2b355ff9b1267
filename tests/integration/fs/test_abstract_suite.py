"""fsspec's own tests of a filesystem, all of them, against a local VSS."""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Callable

import fsspec.tests.abstract as abstract
import pytest

from airflow_provider_mictlanx.fs.filesystem import MictlanXFileSystem
from tests.support.vss import LocalVSS


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, vss: LocalVSS) -> MictlanXFileSystem:
        return MictlanXFileSystem(uri=vss.uri)

    @pytest.fixture
    def fs_path(self, bucket_id: str) -> str:
        return bucket_id

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return posixpath.join


@pytest.fixture(scope="module")
def glob_files(vss: LocalVSS) -> str:
    """The files of the glob cases, stored once: tests of copy and get only read them."""
    fs = MictlanXFileSystem(uri=vss.uri)
    return Fixtures()._glob_edge_cases_files(fs, posixpath.join, f"bucket-{uuid.uuid4().hex}")


class ReadGlobFiles(Fixtures):
    @pytest.fixture
    def fs_glob_edge_cases_files(self, glob_files: str) -> str:
        return glob_files


class TestCopy(abstract.AbstractCopyTests, ReadGlobFiles):
    pass


class TestGet(abstract.AbstractGetTests, ReadGlobFiles):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass
