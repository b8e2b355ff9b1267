"""Whatever stands in a connection, it is understood or refused; its secrets are in no error, and in no ``repr``."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.hooks.connection import _FIELDS, ConnectionSettings, parse_connection
from tests.robustness.fuzzing.test_texts import SECRETS
from tests.support.malformed_values import texts, values

GOOD: dict[str, Any] = {
    "routers": "http://host:60666\nhttp://other:60666/path",
    "verify": "true",
    "client_id": "me",
    "headers": {"X-Tenant": "genomics"},
    "timeout": "30",
    "chunk_size": "8MB",
    "max_concurrency": 4,
}


def understood(extra: Any, **connection: Any) -> ConnectionSettings | str:
    """Return the settings, or the refusal; any other exception is a bug."""
    empty = {"conn_id": "c", "host": None, "login": None, "password": None, "port": None, "schema": None}
    try:
        return parse_connection(SimpleNamespace(**{**empty, **connection}), extra)
    except ValidationError as error:
        return str(error)


@given(st.dictionaries(st.sampled_from(_FIELDS) | texts, values, max_size=6) | values)
def test_any_extra_is_understood_or_refused(extra: Any) -> None:
    understood(extra)


@given(st.sampled_from(_FIELDS), values)
def test_one_wrong_field_is_understood_or_refused(name: str, value: Any) -> None:
    found = understood({**GOOD, name: value})
    if isinstance(found, ConnectionSettings):
        assert found.timeout is None or found.timeout > 0
        assert found.max_concurrency is None or found.max_concurrency >= 1
        assert found.uri.routers
    else:
        assert "connection 'c'" in found


@pytest.mark.parametrize(
    "extra",
    [
        *({"uri": uri} for uri in ("http://[foo", "http://a\uff0fb.c", "http://h:\u0661", "mictlanx://h:1,[::1")),
        *({"uri": "http://h:1", "chunk_size": size} for size in ("9" * 5000, f"{'9' * 400}.5", "\u00b2")),
        *({"uri": "http://h:1", name: 10**400} for name in ("timeout", "max_concurrency")),
    ],
)
def test_odd_values_are_refused(extra: dict[str, Any]) -> None:
    assert "connection 'c'" in understood(extra)  # type: ignore[operator]


@given(texts, texts | st.none(), texts | st.none(), st.integers(0, 70000) | st.none(), texts | st.none())
def test_any_host_and_login_are_understood_or_refused(
    host: str, login: str | None, password: str | None, port: int | None, schema: str | None
) -> None:
    understood({}, host=host, login=login, password=password, port=port, schema=schema)


@given(SECRETS, st.sampled_from(_FIELDS), values)
def test_token_and_header_values_are_in_no_error_and_no_repr(secret: str, name: str, value: Any) -> None:
    for extra in (
        {**GOOD, "headers": {"X-Key": secret}},
        {**GOOD, "headers": f"X-Key: {secret}\nbroken line"},
        {**GOOD, "headers": f"X-Key: {secret}"},
        {**GOOD, "headers": json.dumps({"X-Key": secret})[:-1]},
        {**GOOD, "headers": {"X-Key": [secret]}},
        {**GOOD, "headers": {"X-Key": f"{secret}\n"}},
    ):
        if name != "headers":
            extra[name] = value
        assert secret not in repr(understood(extra, password=secret))
        assert secret not in repr(understood(extra, password=f"{secret} {secret}"))


@given(SECRETS, texts)
def test_password_in_a_routers_address_is_in_no_error(secret: str, tail: str) -> None:
    for text in (f"http://user:{secret}@host{tail}", f"mictlanx://r0:{secret}@host:1{tail}", f"x://{secret}@{tail}"):
        for extra in ({"uri": text}, {"routers": ["http://host:1", text]}):
            found = understood(extra)
            assert isinstance(found, str)
            assert secret not in found
        assert secret not in str(understood({}, host=text))
