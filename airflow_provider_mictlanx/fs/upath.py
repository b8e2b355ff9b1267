"""``UPath("mictlanx://…")``: a path of ``universal_pathlib``, which Airflow's ``ObjectStoragePath`` wraps."""

from __future__ import annotations

import fsspec
from upath.implementations.cloud import CloudPath

from airflow_provider_mictlanx.fs.filesystem import PROTOCOL, MictlanXFileSystem

# universal_pathlib asks fsspec's registry how to split a path; without the class, it would begin with a slash.
fsspec.register_implementation(PROTOCOL, MictlanXFileSystem, clobber=True)


class MictlanXPath(CloudPath):
    """
    A path ``mictlanx://bucket/key``.

    Its ``drive`` is empty, and its ``parts`` begin with ``/`` and the bucket. The ``drive`` of an ``S3Path`` is the
    bucket.
    """

    __slots__ = ()
