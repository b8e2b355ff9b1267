"""What the client costs, measured: ``make bench``. Not part of the package; ``docs/performance.md`` tells of the results."""
