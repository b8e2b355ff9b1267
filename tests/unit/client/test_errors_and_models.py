"""The error tree's numbers and its way through processes; models that take nothing that does not fit."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any, TypeVar

import msgspec
import pytest

from airflow_provider_mictlanx.client import Chunk, errors
from airflow_provider_mictlanx.client.errors import MictlanXError
from airflow_provider_mictlanx.client.models import (
    Answer,
    Bucket,
    DeletedByBallIdResponse,
    DeletedByKeyResponse,
    GetRouterBucketMetadataResponse,
    Metadata,
    PeersResponse,
    PutChunkedResponse,
    PutMetadataRequest,
    PutMetadataResponse,
    StoredBall,
)

M = TypeVar("M", bound=Answer)
NUMBERS = {
    "ValidationError": 400,
    "AuthenticationError": 401,
    "PermissionError": 403,
    "NotFoundError": 404,
    "FileAlreadyExists": 405,
    "UnknownError": 500,
    "IntegrityError": 501,
    "PutChunksError": 502,
    "GetChunkError": 503,
    "MaxAvailabilityReachedError": 666,
    "NetworkError": 1000,
    "ConnectFailedError": 1001,
    "DNSResolutionError": 1002,
    "RequestTimeoutError": 1004,
    "UpstreamProtocolError": 1005,
}
ALL = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, MictlanXError)]
PERMANENT = {
    "ValidationError",
    "AuthenticationError",
    "PermissionError",
    "FileAlreadyExists",
    "BallConflictError",
    "CertificateError",
}
TRANSIENT = {
    "UnknownError",
    "PutChunksError",
    "GetChunkError",
    "UpstreamProtocolError",
    "NetworkError",
    "ConnectFailedError",
    "DNSResolutionError",
    "RequestTimeoutError",
    "UnavailableError",
}


@pytest.mark.parametrize(("name", "number"), NUMBERS.items())
def test_errors_have_the_official_numbers(name: str, number: int) -> None:
    assert getattr(errors, name)("x").error_code == number


def test_codes_of_the_protocol_page_and_its_tree() -> None:
    assert errors.MaxAvailabilityReachedError("x").status_code == 409
    for name in ("ConnectFailedError", "DNSResolutionError", "RequestTimeoutError"):
        assert issubclass(getattr(errors, name), errors.NetworkError)
    assert not issubclass(errors.UpstreamProtocolError, errors.NetworkError)
    assert issubclass(errors.BallConflictError, errors.FileAlreadyExists)


@pytest.mark.parametrize("cls", ALL)
def test_what_may_be_tried_again(cls: type[MictlanXError]) -> None:
    error = cls("x")
    assert error.permanent == (cls.__name__ in PERMANENT)
    assert error.transient == (cls.__name__ in TRANSIENT)
    assert not (error.permanent and error.transient)
    other = cls("x", transient=not error.transient, permanent=not error.permanent)
    assert (other.transient, other.permanent) == (not error.transient, not error.permanent)


@pytest.mark.parametrize("cls", ALL)
def test_errors_survive_a_pickle_and_a_copy(cls: type[MictlanXError]) -> None:
    error = cls("what was being done", 418, 7, transient=True, permanent=False)
    error.__dict__["replicas"] = ["peer-0"]
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is cls
        assert str(other) == "what was being done"
        assert vars(other) == vars(error)
        assert other.args == error.args


def read(model: type[M], answer: str) -> M:
    return msgspec.json.decode(answer, type=model)


def metadata(**other: Any) -> dict[str, Any]:
    return {"key": "k_3", "size": 5, "checksum": "c", "ball_id": "k", "bucket_id": "b", "tags": {}, **other}


def test_what_is_not_known_is_ignored() -> None:
    assert read(Metadata, json.dumps(metadata(colour="blue"))).size == 5


@pytest.mark.parametrize(
    "bad",
    [
        {"size": -1},
        {"size": "5"},
        {"size": 5.0},
        {"size": True},
        {"size": None},
        {"size": 2**63},
        {"key": None},
        {"checksum": 1},
        {"tags": {"a": 1}},
        {"tags": []},
        {"ball_id": None},
    ],
    ids=str,
)
def test_metadata_that_does_not_fit_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(msgspec.DecodeError):
        read(Metadata, json.dumps(metadata(**bad)))


@pytest.mark.parametrize("missing", ["key", "size", "checksum", "ball_id", "bucket_id"])
def test_metadata_that_lacks_something_is_refused(missing: str) -> None:
    given = metadata()
    del given[missing]
    with pytest.raises(msgspec.DecodeError):
        read(Metadata, json.dumps(given))


def test_no_tags_are_empty_tags() -> None:
    assert read(Metadata, json.dumps(metadata(tags=None))).tags == {}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, (3, None, None, 0)),
        ({"index": "0", "num_chunks": "1"}, (0, 1, "c", 0)),
        ({"index": "0", "num_chunks": "2", "full_checksum": "f", "updated_at": "123"}, (0, 2, "f", 123)),
        ({"index": "x", "num_chunks": "x", "updated_at": "x"}, (-1, None, None, 0)),
        ({"index": "-1", "num_chunks": "-1", "updated_at": "-1"}, (-1, None, None, 0)),
        ({"index": "٣", "num_chunks": "9" * 99, "updated_at": "9" * 20}, (-1, None, None, 0)),
    ],
)
def test_what_tags_tell(tags: dict[str, str], expected: tuple[Any, ...]) -> None:
    found = read(Metadata, json.dumps(metadata(tags=tags)))
    assert (found.index, found.num_chunks, found.full_checksum, found.updated_at) == expected


def test_answers_that_lack_what_matters_are_refused() -> None:
    for model, answer in (
        (PutChunkedResponse, {}),
        (PutChunkedResponse, {"peer_ids": None}),
        (PutMetadataResponse, {"key": "k", "bucket_id": "b", "tasks_ids": [], "replicas": []}),
        (PutMetadataResponse, {"key": "k", "bucket_id": "b", "tasks_ids": ["t"]}),
        (GetRouterBucketMetadataResponse, {"bucket_id": "b", "balls": []}),
        (PeersResponse, {}),
    ):
        with pytest.raises(msgspec.DecodeError):
            read(model, json.dumps(answer))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1", "1" + "0" * 400, "1.5", '"7"'])
@pytest.mark.parametrize(
    ("model", "answer"),
    [
        (PutChunkedResponse, '{"peer_ids": [], "size": %s}'),
        (DeletedByBallIdResponse, '{"n_deletes": %s}'),
        (DeletedByKeyResponse, '{"n_deletes": %s}'),
        (StoredBall, '{"key": "k", "size": %s}'),
    ],
)
def test_numbers_that_count_nothing_are_refused(model: type[Answer], answer: str, number: str) -> None:
    read(model, answer % "7")
    with pytest.raises(msgspec.DecodeError):
        read(model, answer % number)


def test_nan_is_refused_where_any_number_will_do() -> None:
    answer = '{"key": "k", "bucket_id": "b", "tasks_ids": ["t"], "replicas": [], "service_time": %s}'
    assert read(PutMetadataResponse, answer % "1.5").service_time == 1.5
    for number in ("NaN", "-Infinity", "1e999"):
        with pytest.raises(msgspec.DecodeError):
            read(PutMetadataResponse, answer % number)


def test_announcement_has_every_field_of_the_protocol() -> None:
    request = PutMetadataRequest(bucket_id="b", key="k_0", ball_id="k", checksum="c", size=0, producer_id="p")
    assert set(request.model_dump()) == {
        *("bucket_id", "key", "ball_id", "checksum", "size", "tags", "producer_id"),
        *("content_type", "is_disabled", "replication_factor"),
    }


def test_chunk_and_bucket() -> None:
    tags = {"a": "b"}
    chunk = Chunk("g", 2, b"abc", metadata=tags)
    assert (chunk.chunk_id, chunk.size, chunk.checksum[:8]) == ("g_2", 3, "ba7816bf")
    assert chunk.metadata == tags
    assert chunk.metadata is not tags
    assert "abc" not in repr(chunk)
    assert len(Bucket("b")) == Bucket("b").size_bytes() == 0
