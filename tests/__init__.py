"""The tests; what several of them use is in ``tests.support.vss`` and ``tests.conftest``."""
