"""Whatever text comes in, URIs, sizes and names are understood or refused, and secrets do not come up in the refusal."""

from __future__ import annotations

import contextlib
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mictlanx.client.errors import MictlanXError, ValidationError
from airflow_provider_mictlanx.client.object_ids import (
    check_bucket_id,
    make_ball_id,
    original_key,
    path_tags,
    safe_file_name,
)
from airflow_provider_mictlanx.client.uri import MictlanXURI
from airflow_provider_mictlanx.client.validation import parse_size
from airflow_provider_mictlanx.safe_ids import is_safe_id
from tests.support.malformed_values import scalars, texts

SECRETS = st.text("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ", min_size=12, max_size=20).map("q7{}".format)


@given(texts | texts.map("mictlanx://{}".format), st.none() | st.integers(1, 65535))
def test_uri_is_understood_and_read_back_or_refused(text: str, default_port: int | None) -> None:
    try:
        uri = MictlanXURI.parse(text, default_port=default_port)
    except ValidationError:
        return
    assert uri.routers
    assert all(router.port is None or 0 < router.port < 65536 for router in uri.routers)
    if all(router.port for router in uri.routers):
        assert MictlanXURI.parse(str(uri)) == uri


ROUTERS = st.builds(
    "{}{}{}:{}".format,
    st.sampled_from(["", "r0@", "router-1@"]),
    st.sampled_from(["localhost", "10.0.0.1", "storage.example.org", "[::1]"]),
    st.sampled_from(["", "/mictlanx", "/v0/a/b"]),
    st.integers(1, 65535),
)


@given(st.lists(ROUTERS, min_size=1, max_size=4), st.sampled_from(["http", "https"]), st.integers(0, 9), st.booleans())
def test_right_uri_says_the_same_after_it_was_written_and_read(
    routers: list[str], protocol: str, api_version: int, http2: bool
) -> None:
    text = f"mictlanx://{','.join(routers)}/?protocol={protocol}&api_version={api_version}&http2={int(http2)}"
    with contextlib.suppress(ValidationError):  # the same router id twice
        uri = MictlanXURI.parse(text)
        assert (uri.protocol, uri.api_version, uri.http2, len(uri.routers)) == (
            *(protocol, api_version, http2),
            len(routers),
        )
        assert MictlanXURI.parse(str(uri)) == uri


@given(SECRETS, st.sampled_from(["user", "", "r0"]), texts)
def test_password_in_a_uri_is_in_no_error(secret: str, user: str, tail: str) -> None:
    for text in (f"mictlanx://{user}:{secret}@host{tail}", f"mictlanx://r1@h1:60666,{user}:{secret}@{tail}"):
        with pytest.raises(ValidationError) as refused:
            MictlanXURI.parse(text)
        assert secret not in str(refused.value)


@pytest.mark.parametrize("text", ["9" * 5000, f"{'9' * 400}.5", f"{'9' * 400}.5kb", "\u00b2", 1e400])
def test_odd_number_is_no_size(text: object) -> None:
    with pytest.raises(ValidationError):
        parse_size(text)  # type: ignore[arg-type]


@given(scalars, st.integers(1, 10))
def test_size_is_a_number_of_bytes_or_refused(text: object, least: int) -> None:
    with contextlib.suppress(ValidationError):
        size = parse_size(text, least=least)  # type: ignore[arg-type]
        assert isinstance(size, int)
        assert size >= least


@given(scalars)
def test_names_are_safe_or_refused(name: object) -> None:
    with contextlib.suppress(ValidationError):
        assert is_safe_id(check_bucket_id(name))  # type: ignore[arg-type]
    with contextlib.suppress(ValidationError):
        ball_id = make_ball_id(name)  # type: ignore[arg-type]
        assert is_safe_id(ball_id)
        assert original_key(ball_id, path_tags(str(name))) == name


@given(texts, st.dictionaries(st.sampled_from(["full_path", "fullname", "extension"]), texts))
def test_names_of_strangers_lead_nowhere(ball_id: str, tags: dict[str, str]) -> None:
    with contextlib.suppress(MictlanXError):
        assert original_key(ball_id, tags) in (ball_id, tags.get("full_path"))
    for name in tags.values():
        plain = safe_file_name(name)
        assert plain is None or (PurePosixPath(plain).name == plain and plain not in ("", ".", ".."))
