"""Texts for people: what is escaped, what is a secret, and where a text may be cut."""

from __future__ import annotations

import logging
import time

import pytest

from airflow_provider_mictlanx.client import AsyncRouter, ValidationError, texts
from airflow_provider_mictlanx.client.transport.connections import Transport


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x00\x7f\x9b", r"\x00\x7f\x9b"),
        ("invoice\u202egpj.exe", r"invoice\u202egpj.exe"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("\udcff", r"\udcff"),
        ("\U000e0041", r"\U000e0041"),
        ("a\u00a0b\u2028", r"a\xa0b\u2028"),
        ("ñandú 日本 Ω 🙂 a\\b", "ñandú 日本 Ω 🙂 a\\b"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert texts.printable(text) == shown


@pytest.mark.parametrize("secret", ["a", "no", "is1", "", "  a  "])
def test_short_secret_leaves_messages_alone(secret: str) -> None:
    texts.remember_secret(secret)
    texts.remember_header("X-Secret", secret)
    message = "status 500, a bucket is1 no answer, SHA-256 6e6f697331, bm8= aXMx"
    assert texts.clean(message) == message


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("Bearer w0rd-of-somebody", "the token is w0rd-of-somebody"),
        ("session=w0rd-of-cookie; theme=dark", "{'session': 'w0rd-of-cookie'}"),
        ("Basic bWU6dzByZC1vZi1iYXNpYw==", "user me, password w0rd-of-basic"),
        ("Basic bWU6dzByZC1vZi1iYXNpYw==", "me:w0rd-of-basic"),
        ("w0rd of spaces", "w0rd+of+spaces"),
        ("w0rd of spaces", "w0rd\n  of spaces"),
    ],
)
def test_part_of_a_header_that_is_a_secret_by_itself(value: str, told: str) -> None:
    texts.remember_header("X-Any", value)
    cleaned = texts.clean(told)
    assert "w0rd" not in cleaned
    assert "***" in cleaned
    assert (
        texts.clean("a dark theme, Basic and Bearer, session of me") == "a dark theme, Basic and Bearer, session of me"
    )


def test_header_that_says_it_is_secret_may_be_shorter() -> None:
    for name in ("Authorization", "X-API-Key", "cookie", "X-Trace"):
        texts.remember_header(name, f"{name[-5:]}!")
    assert texts.clean("ation! I-Key! ookie! Trace! trace") == "*** *** *** Trace! trace"


def test_what_stands_around_a_secret_stays() -> None:
    texts.remember_secret("k33p/around+it")
    assert texts.clean("before k33p%2Faround%2Bit after") == "before *** after"
    assert texts.clean("k33p\\/around\\u002Bit, k33p/around+it") == "***, ***"
    assert texts.clean("100% of %41 &amp; \\d+") == "100% of %41 &amp; \\d+"


def test_secret_with_what_only_looks_like_an_escape() -> None:
    texts.remember_secret("a&nothing;b%zz\\q")
    assert texts.clean("was a&nothing;b%zz\\q, and &nothing;") == "was ***, and &nothing;"


def test_excerpt_cuts_no_secret_in_two() -> None:
    texts.remember_secret("cut-in-two-s3cret")
    assert texts.excerpt("0123456789 cut-in-two-s3cret", 15) == "0123456789 ***"
    assert texts.excerpt("0123456789 more of it", 15) == "0123456789 more…"
    assert texts.excerpt(b"\xff\nHTTP cut-in-two-s3cret", 12) == "\ufffd\nHTTP ***"


@pytest.mark.parametrize("text", ["%25" * 350_000, "\\\\" * 500_000, "&amp;" * 200_000, "A" * 1_000_000])
def test_hostile_text_takes_no_long_time(text: str) -> None:
    texts.remember_secret("long-texts-s3cret")
    began = time.process_time()
    texts.excerpt(text, 300)
    assert time.process_time() - began < 20, "by far less than a pass over the text for each of its characters"


def test_oldest_secret_is_forgotten_and_used_one_is_not() -> None:
    secrets = texts.Secrets(most=3)
    for secret in ("s3cret-1", "s3cret-2", "s3cret-3", "s3cret-1", "s3cret-4"):
        secrets.remember(secret)
    assert secrets.redact("s3cret-1 s3cret-2 s3cret-3 s3cret-4") == "*** s3cret-2 *** ***"


def test_client_remembers_what_it_sends() -> None:
    Transport(token="t0ken-of-a-client", headers={"X-Any": "v4lue-of-a-header"})
    assert texts.clean("t0ken-of-a-client, v4lue-of-a-header") == "***, ***"


def test_log_record_of_the_package_is_cleaned(caplog: pytest.LogCaptureFixture) -> None:
    texts.remember_secret("l0gged-s3cret")
    texts.get_logger("airflow_provider_mictlanx.tests").warning("%(a)s", {"a": "l0gged-s3cret\n"})
    assert caplog.messages == ["***\\n"]


def test_logger_without_filters_is_wrapped() -> None:
    """As Airflow 3 has it. Each line is of its caller, not of the wrapper."""
    structlog = pytest.importorskip("structlog", reason="Airflow 2 logs by the standard library alone")
    where = structlog.processors.CallsiteParameterAdder([structlog.processors.CallsiteParameter.FILENAME])
    written = structlog.testing.LogCapture()
    levels = structlog.make_filtering_bound_logger(logging.INFO)
    inner = structlog.wrap_logger(None, [where, written], wrapper_class=levels, task="t")
    logger = texts.clean_logger(inner)
    logger.warning("%s of 100%%", "a\nb", exc_info=False)
    logger.error("50% done")
    logger.debug("%s", "not logged")
    shared = {"filename": "test_texts.py", "task": "t"}
    assert written.entries == [
        {"event": "a\\nb of 100%", "log_level": "warning", "exc_info": False, **shared},
        {"event": "50% done", "log_level": "error", **shared},
    ]
    assert logger.bind == inner.bind
    assert texts.clean_logger(logging.getLogger("x")) is logging.getLogger("x")


def test_user_and_password_of_an_address_are_not_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        AsyncRouter("r", "me:s3cret@example.org", 60666)
    assert "s3cret" not in str(caught.value)
    assert "example.org" in str(caught.value)
