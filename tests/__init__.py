"""The tests; what several of them use is in ``tests.vss`` and ``tests.conftest``."""
