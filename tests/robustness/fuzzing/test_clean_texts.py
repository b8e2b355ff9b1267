"""Whatever an error or a log record is made of: no secret in any spelling, nothing that is not printable, everything else stays."""

from __future__ import annotations

import io
import logging
import pickle
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from airflow_provider_mictlanx.batches.runner import BatchError, Failure
from airflow_provider_mictlanx.bulks.errors import BulkFailedError
from airflow_provider_mictlanx.bulks.records import Done, Summary
from airflow_provider_mictlanx.bulks.status import BulkStatus, State
from airflow_provider_mictlanx.bulks.summary import summarize
from airflow_provider_mictlanx.client import texts
from airflow_provider_mictlanx.client.errors import MictlanXError, UnknownError
from airflow_provider_mictlanx.client.transport.backend import InvalidResponseError
from tests.support.secret_spellings import PAIRS, encoders, evil_texts, header_values, spell, tokens

LIKE_A_TOKEN = "Zq7/+x~%41&lt;\\n\"'=9_aB-"

around = st.sampled_from(["", " ", ".", "a", "Bearer ", "'", '"', "=", ":", "ñ", "\n", "100%, "])


def said(error: BaseException) -> str:
    return f"{error} {error!r} {error.args}"


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_every_pair_of_spellings_is_redacted(first: str, second: str) -> None:
    texts.remember_secret(LIKE_A_TOKEN)
    cleaned = texts.clean(f"refused: {spell(LIKE_A_TOKEN, [first, second])}, sorry")
    before, stars, after = cleaned.partition("***")
    assert stars
    assert (before[:9], after[-7:]) == ("refused: ", ", sorry")
    if not any(part in first + second for part in ("after", "between", "URLs")):
        assert (before, after) == ("refused: ", ", sorry"), "only what base64 has around the secret may be left"


@given(secret=tokens, names=encoders, before=around, after=around)
@example(LIKE_A_TOKEN, ["unchanged", "base64", "unchanged"], "", "")
def test_secret_is_in_no_error_in_any_spelling(secret: str, names: list[str], before: str, after: str) -> None:
    texts.remember_secret(secret)
    spelled = spell(secret, names)
    error = UnknownError(f"putting b/k: status 500, {before}{spelled}{after}; the fault is the service's")
    for shown in (said(error), said(pickle.loads(pickle.dumps(error))), said(InvalidResponseError(spelled))):
        assert spelled not in shown
        assert secret not in shown
    assert "***" in str(error)
    error.amend(f"{error}: {spelled}")
    assert spelled not in said(error)


@given(value=header_values, names=encoders)
def test_value_of_a_header_is_in_no_error_in_any_spelling(value: str, names: list[str]) -> None:
    texts.remember_header("X-Any", value)
    assert spell(value, names) not in said(MictlanXError(f"refused: {spell(value, names)}"))


@given(secret=tokens, names=encoders, evil=evil_texts)
def test_log_record_has_no_secret_and_is_one_line(secret: str, names: list[str], evil: str) -> None:
    texts.remember_secret(secret)
    spelled = spell(secret, names)
    with logged() as stream:
        texts.get_logger("airflow_provider_mictlanx.tests.texts").warning("%s of %s: %d%%", evil, spelled, 5)
        shown = stream.getvalue()
    assert spelled not in shown
    assert shown.endswith(": 5%\n")
    assert shown[:-1].isprintable()


@given(evil_texts, evil_texts)
def test_no_message_has_a_character_that_is_not_printable(before: str, after: str) -> None:
    errors = [
        MictlanXError(f"{before} x"),
        UnknownError(before),
        BatchError(before),
        BulkFailedError(before, result={}),
    ]
    for error in errors:
        error.amend(f"{error}{after}")
        assert said(error).isprintable()
        assert error.message == str(error) == error.args[0]
        str(error).encode()


@given(evil_texts)
def test_texts_of_a_record_are_printable_and_keys_are_exact(evil: str) -> None:
    assume(not any("\ud800" <= char <= "\udfff" for char in evil))
    failure = Failure(bucket_id="b", key=evil, code=500, message=evil)
    done = Done(shard=0, attempt="0" * 16, failures=[failure], error=evil)
    told = summarize(BulkStatus(evil, State.FAILED, failed=1))
    told |= {"failures": [{"bucket_id": "b", "key": evil, "code": 500, "message": evil}], "problems": [evil]}
    closed = Summary(**told)
    assert (failure.key, closed.bulk_id, closed.failures[0].key, closed.failed) == (evil, evil, evil, 1)
    for text in (failure.message, done.error, closed.failures[0].message, *closed.problems):
        assert text.isprintable()


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), max_size=60))
def test_printable_text_without_secrets_stays(text: str) -> None:
    texts.remember_secret("\x7fno text has this")  # so that there is something to look for
    assert texts.printable(text) == text
    assert texts.clean(text) == text


@given(evil_texts)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert texts.clean(texts.clean(text)) == texts.clean(text)


@contextmanager
def logged() -> Any:
    """Take what a logger of the package writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("airflow_provider_mictlanx.tests.texts")
    logger.addHandler(handler)
    try:
        yield stream
    finally:
        logger.removeHandler(handler)
