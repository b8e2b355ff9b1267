"""Memory stays bounded for files of any size, in both directions."""

from __future__ import annotations

import subprocess
import sys

from tests.support.vss import LocalVSS

SIZE = 240_000_000
LIMIT = 160
"""MiB: the cache of 64 MB, 32 MB under way, and what Python and the system keep."""

CODE = f"""
import os, resource, sys
import fsspec
fs = fsspec.filesystem("mictlanx", uri=sys.argv[1])
fs.pipe("{{0}}/warm".format(sys.argv[2]), b"1")
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before, path = peak(), sys.argv[2] + "/large"
with fs.open(path, "wb") as file:
    for number in range({SIZE} // 1_000_000):
        file.write(number.to_bytes(8, "big") * 125_000)
written = peak() - before
count = 0
with fs.open(path) as file:
    while piece := file.read(700_000):
        count += len(piece)
assert count == {SIZE}, count
print(written, peak() - before)
"""


def test_memory_is_bounded_both_ways(vss: LocalVSS, bucket_id: str) -> None:
    output = subprocess.check_output([sys.executable, "-c", CODE, vss.uri, bucket_id], text=True)
    written, read = map(int, output.split())
    assert written < LIMIT
    assert read < LIMIT
