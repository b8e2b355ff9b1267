"""
What the hook gives back: small dictionaries that JSON and XCom can hold, made of the client's reports and of what ``bulks`` tells.

Imports the client's and the bulks' models only.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_mictlanx.batches.running import BatchResult
from airflow_provider_mictlanx.bulks.status import BulkStatus
from airflow_provider_mictlanx.bulks.upload import UploadResult
from airflow_provider_mictlanx.bulks.waiting import fitting
from airflow_provider_mictlanx.client.models import Ball, DeleteBucketResponse, FileReport, PutReport, RouterCheck
from airflow_provider_mictlanx.client.texts import clean

_SMALL = 1200
"""The most that the failures of an upload take as JSON (characters)."""

_FIRST_OBJECTS = 20
"""The most objects that a list of the first few has …"""

_SMALL_LIST = 2000
"""… and the most that it takes as JSON (characters)."""

_SHORT = 200
"""The longest key or message of a failure (characters) …"""

_SHORTEST = 60
"""… and where a single one would be too much."""


def of_report(report: PutReport | FileReport) -> dict[str, Any]:
    """Give the fields of a report of a transfer: texts, numbers and flags."""
    return dataclasses.asdict(report)


def of_ball(ball: Ball) -> dict[str, Any]:
    """Give what a listing tells of a ball: ``bucket_id, key, ball_id, size, checksum, num_chunks, tags, updated_at``."""
    return {
        "bucket_id": ball.bucket_id,
        "key": ball.key,
        "ball_id": ball.ball_id,
        "size": ball.size,
        "checksum": ball.checksum,
        "num_chunks": ball.num_chunks,
        "tags": dict(ball.tags),
        "updated_at": ball.updated_at,
    }


def of_objects(bucket_id: str, balls: Sequence[Ball]) -> dict[str, Any]:
    """Give ``bucket_id, count, total_size, objects``; ``objects`` are the first few, as ``{key, size}``."""
    first: list[dict[str, Any]] = []
    for ball in balls[:_FIRST_OBJECTS]:
        entry = {"key": ball.key, "size": ball.size}
        if len(json.dumps([*first, entry])) > _SMALL_LIST:
            break
        first.append(entry)
    return {
        "bucket_id": bucket_id,
        "count": len(balls),
        "total_size": sum(ball.size for ball in balls),
        "objects": first,
    }


def of_deleted_bucket(response: DeleteBucketResponse) -> dict[str, Any]:
    """Give ``bucket_id, deleted, failed, total, response_time``; its lists would grow with the bucket."""
    return response.model_dump(include={"bucket_id", "deleted", "failed", "total", "response_time"})


def of_batch(outcome: BatchResult, done: str, **which: Any) -> dict[str, Any]:
    """
    Give what became of many balls: ``which``, ``total_balls``, ``{done}``, ``skipped``, ``failed``, ``{done}_size``, ``response_time``, ``failures``.

    :param done: what was done: ``copied``
    :param which: which balls
    """
    return {
        **which,
        "total_balls": outcome.total,
        done: outcome.done,
        "skipped": outcome.skipped,
        "failed": outcome.failed,
        f"{done}_size": outcome.done_size,
        "response_time": outcome.response_time,
        "failures": _few(failure.model_dump() for failure in outcome.failures),
    }


def of_deleted(outcome: BatchResult, bucket_id: str) -> dict[str, Any]:
    """Give ``bucket_id, deleted, absent, failed, total, response_time, failures``; ``absent`` were not there."""
    return {
        "bucket_id": bucket_id,
        "deleted": outcome.done,
        "absent": outcome.skipped,
        "failed": outcome.failed,
        "total": outcome.total,
        "response_time": outcome.response_time,
        "failures": _few(failure.model_dump() for failure in outcome.failures),
    }


def of_upload(outcome: UploadResult, *, with_failures: bool) -> dict[str, Any]:
    """Give what became of a shard, as ``MictlanXHook.put_bulk`` returns it."""
    left_out = ("failures", "slowest", "hopeless")
    told = {name: value for name, value in vars(outcome).items() if name not in left_out}
    return told | {"failures": _few(failure.model_dump() for failure in outcome.failures)} if with_failures else told


def of_status(status: BulkStatus) -> dict[str, Any]:
    """Give where a bulk stands, as ``MictlanXHook.bulk_status`` returns it."""
    told = {name: value for name, value in vars(status).items() if name != "closed"}
    return fitting(
        {
            **told,
            "state": status.state.value,
            "failures": [failure.model_dump() for failure in status.failures],
            "problems": list(status.problems),
            "result": dict(status.closed.result) if status.closed else None,
        }
    )


def _few(failures: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give the first few failures, cut short: ``{bucket_id, key, code, message}``."""
    few: list[dict[str, Any]] = []
    for failure in failures:
        short = _cut(failure, _SHORT)
        if len(json.dumps([*few, short])) > _SMALL:
            return few or [_cut(failure, _SHORTEST)]
        few.append(short)
    return few


def _cut(failure: Mapping[str, Any], longest: int) -> dict[str, Any]:
    texts = {name: failure[name] for name in ("key", "message")}
    cut = {name: text if len(text) <= longest else f"{text[: longest - 1]}…" for name, text in texts.items()}
    return {**failure, **cut}


def of_connection_test(answers: Sequence[RouterCheck]) -> tuple[bool, str]:
    """
    Tell whether every router answers for one storage space, with a line for each of them.

    Every line is a sentence: Airflow's page of connections shows them without the line breaks.
    """
    spaces = {frozenset((*answer.available, *answer.unavailable)) for answer in answers if answer.error is None}
    failed = [answer for answer in answers if answer.error is not None]
    deaf = [answer for answer in answers if answer.error is None and not answer.available]
    problems = []
    if failed:
        problems.append(f"{len(failed)} of {_count(len(answers), 'router')} failed")
    if len(spaces) > 1:
        problems.append("the routers name different peers: they belong to different storage spaces")
    if deaf:
        problems.append("no peer is available")
    summary = "; ".join(problems) if problems else _all_is_well(len(answers), len(next(iter(spaces))))
    return not problems, "\n".join(
        [f"{summary}.", *(clean(_line(answer, name_all=len(spaces) > 1)) for answer in answers)]
    )


def _all_is_well(routers: int, peers: int) -> str:
    return f"{_count(routers, 'router')} of one storage space with {_count(peers, 'peer')}"


def _line(answer: RouterCheck, *, name_all: bool) -> str:
    where = f"{answer.router_id} ({answer.url})"
    if answer.error is not None:
        return f"{where}: {str(answer.error).removeprefix(f'peers of router {where}: ')}"
    line = f"{where}: {_count(len(answer.available), 'peer')} available, {answer.milliseconds:.0f} ms"
    if name_all and answer.available:
        line += f" ({', '.join(sorted(answer.available))})"
    if answer.unavailable:
        line += f"; unavailable: {', '.join(sorted(answer.unavailable))}"
    return f"{line}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
