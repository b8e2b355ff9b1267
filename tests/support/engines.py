"""The HTTP engines, for tests that run on each of them, and what the engines themselves know of their connections."""

from __future__ import annotations

import pytest

from airflow_provider_mictlanx.client.transport.aiohttp_backend import AiohttpBackend
from airflow_provider_mictlanx.client.transport.backend import BackendFactory, HttpBackend
from airflow_provider_mictlanx.client.transport.connections import Transport
from airflow_provider_mictlanx.client.transport.httpx_backend import HttpxBackend

ENGINES: dict[str, BackendFactory] = {"aiohttp": AiohttpBackend, "httpx": HttpxBackend}

each_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES.keys())
"""Runs a test with the parameter ``engine``, a factory, on each engine: ``Transport(backend_factory=engine)``."""


def busy_connections(backend: HttpBackend) -> int:
    """Return how many connections of an engine serve a request; neither library has a public name for that."""
    if isinstance(backend, AiohttpBackend):
        connector = backend._session.connector
        assert connector is not None
        return len(connector._acquired)
    assert isinstance(backend, HttpxBackend)
    pool = backend._client._transport._pool  # type: ignore[attr-defined]
    return sum(not connection.is_idle() and not connection.is_closed() for connection in pool.connections)


def busy_connections_of(transport: Transport) -> int:
    """Return how many connections of a transport serve a request."""
    return sum(busy_connections(backend) for pools in transport._pools.values() for backend in pools.backends.values())
