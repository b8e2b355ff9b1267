"""The tests. Their helpers are in ``tests.support``, shared fixtures in ``tests.conftest``."""
