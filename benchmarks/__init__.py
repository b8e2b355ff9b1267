"""Measure the client (``make bench``). Not part of the package; ``docs/performance.md`` discusses the results."""
