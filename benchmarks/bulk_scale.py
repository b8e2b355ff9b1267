"""
Measure large bulks: simulated records of a million balls in a hundred shards, and ten thousand small real files.

``python benchmarks/bulk_scale.py`` prints a table. ``--balls`` and ``--shards`` set the simulated size, ``--files``
the number of real files to upload to a local VSS (0 for none). Every simulated step runs in a process of its own, so
that its memory can be measured. The local VSS counts the requests.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from airflow_provider_mictlanx.bulks.attempt import FULL_PART, ShardUpload
from airflow_provider_mictlanx.bulks.ledger import Ledger
from airflow_provider_mictlanx.bulks.monitor import await_bulk, bulk_status
from airflow_provider_mictlanx.bulks.options import AttemptOptions, BulkSpec
from airflow_provider_mictlanx.bulks.plan import PlannedBall, make_plan, read_plan, select_shard
from airflow_provider_mictlanx.bulks.records import (
    Done,
    Part,
    Plan,
    Record,
    Records,
    Start,
    format_ranges,
    parse_ranges,
    read_listing,
)
from airflow_provider_mictlanx.bulks.sources import SourceBall, check_balls, list_sources
from airflow_provider_mictlanx.bulks.status import compute_status
from airflow_provider_mictlanx.bulks.summary import summarize
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.models import GetRouterBucketMetadataResponse
from tests.support.vss import LocalVSS

BULK = "nightly-20261123"
REPLICAS = 3
SIZE = 100_000
"""Average size of a simulated ball (bytes)."""


# -- simulated ---------------------------------------------------------------------------------------------------------


def a_listing(balls: int) -> list[SourceBall]:
    """Return a listing like that of a folder of frames."""
    return [
        SourceBall(
            "frames",
            f"2026/11/{n // 1000:04}/frame-{n:07}.jpg",
            n * 7919 % (2 * SIZE),
            f"/data/frames/2026/11/{n:07}.jpg",
        )
        for n in range(balls)
    ]


def a_plan(balls: list[SourceBall]) -> list[PlannedBall]:
    """Return the plan of the balls."""
    return [
        PlannedBall(b.bucket_id, b.key, b.size, hashlib.sha256(b.key.encode()).hexdigest(), 8_000_000, b.source)
        for b in balls
    ]


def listing_step(balls: int, shards: int) -> dict[str, Any]:
    """List the complete source, as every shard does."""
    listing = check_balls(a_listing(balls))
    return {"balls": len(listing)}


def planning_step(balls: int, shards: int) -> dict[str, Any]:
    """Plan a shard without reading its files: list, sort, take the shard's part, write the plan."""
    listing = check_balls(a_listing(balls))
    own = select_shard(listing, 0, shards)
    _, content = make_plan(BULK, 0, shards, a_plan(own), listing, False)
    return {"balls": len(own), "record": len(content)}


def the_records(balls: int, shards: int, parts: int) -> list[Record]:
    """Return the records of a bulk whose shards all ended in their first attempt."""
    each = balls // shards
    records: list[Record] = []
    for shard in range(shards):
        attempt, digest = hashlib.sha256(b"%d" % shard).hexdigest()[:16], hashlib.sha256(b"p%d" % shard).hexdigest()
        told: dict[str, Any] = {"shard": shard, "attempt": attempt}
        records.append(
            Start(**told, sequence=1, shards=shards, owner={"dag_id": "nightly", "run_id": BULK}, spec="{}" * 100)
        )
        records.append(
            Plan(
                shard=shard,
                digest=digest,
                shards=shards,
                balls=each,
                size=each * SIZE,
                listing=hashlib.sha256(b"l").hexdigest(),
                listing_balls=balls,
                listing_size=balls * SIZE,
            )
        )
        records += [Part(**told, number=n, plan=digest, acknowledged=each * n // parts, size=0) for n in range(parts)]
        records.append(Done(**told, plan=digest, balls=each, acknowledged=each, size=each * SIZE, uploaded=each))
    return records


def an_answer(records: list[Record]) -> bytes:
    """Return the router's listing of the records, with every replica."""
    balls = [
        {
            "key": f"{record.name}_0",
            "size": 200,
            "checksum": hashlib.sha256(record.name.encode()).hexdigest(),
            "tags": {
                **record.tags(BULK),
                "index": "0",
                "num_chunks": "1",
                "full_checksum": hashlib.sha256(record.name.encode()).hexdigest(),
                "chunk_size": "200",
                "group_id": record.name,
                "updated_at": str(1_795_425_636_389_432_932 + replica),
            },
            "content_type": "application/octet-stream",
            "producer_id": "airflow",
            "ball_id": record.name,
            "bucket_id": f"bulk-{BULK}",
            "is_disabled": False,
        }
        for record in records
        for replica in range(REPLICAS)
    ]
    return json.dumps(
        {"bucket_id": f"bulk-{BULK}", "peers_ids": ["peer-0", "peer-1", "peer-2"], "balls": balls}
    ).encode()


ANSWERS: dict[tuple[int, int], bytes] = {}


def poke_step(balls: int, shards: int) -> dict[str, Any]:
    """Run one poke on a listing with the maximum number of parts: parse it and compute the state."""
    answer = ANSWERS[balls, shards]
    began = time.perf_counter()
    records = read_records(answer)
    summary = summarize(compute_status(records))
    return {
        "own seconds": time.perf_counter() - began,
        "record": len(answer),
        "balls": len(records.names),
        "xcom": len(json.dumps(summary)),
    }


def read_records(answer: bytes) -> Records:
    """Parse the answer to a listing."""
    response = msgspec.json.decode(answer, type=GetRouterBucketMetadataResponse)
    return read_listing(BULK, response.balls, complete=True)


def resume_step(balls: int, shards: int) -> dict[str, Any]:
    """Read what a shard's second attempt reads: its plan and ten parts; then compute what is missing."""
    own = select_shard(a_listing(balls), 0, shards)
    plan, content = make_plan(BULK, 0, shards, a_plan(own), [], True)
    parts = [format_ranges(range(n, len(own), 11)) for n in range(10)]
    began = time.perf_counter()
    ledger = Ledger()
    ledger.plan = read_plan(plan.record, content)
    for part in parts:
        ledger.learn(parse_ranges(part, len(own)))
    missing = ledger.missing
    return {"own seconds": time.perf_counter() - began, "balls": len(missing), "record": len(content)}


def items_step(balls: int, shards: int) -> dict[str, Any]:
    """Await with ``include_items``: read every plan in turn, and return every ball."""
    each = balls // shards
    told: list[dict[str, Any]] = []
    for shard in range(shards):
        own = [
            SourceBall("frames", f"{shard:03}/frame-{n:07}.jpg", SIZE, f"/data/frames/{shard:03}/{n:07}.jpg")
            for n in range(each)
        ]
        plan, content = make_plan(BULK, shard, shards, a_plan(own), [], True)
        told += [
            {"bucket_id": ball.bucket_id, "key": ball.key, "size": ball.size, "checksum": ball.checksum}
            for ball in read_plan(plan.record, content).balls
        ]
    return {"balls": len(told)}


def measured(work: Callable[[int, int], dict[str, Any]], balls: int, shards: int) -> dict[str, Any]:
    """Run a step in a process of its own; return its seconds, its peak memory (MB) and its result."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def run() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        told = work(balls, shards)
        seconds = time.perf_counter() - began
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        theirs.send({"seconds": seconds, "MB": peak, **told})

    process = context.Process(target=run)
    process.start()
    answer: dict[str, Any] = ours.recv()
    process.join()
    return answer


STEPS = {
    "listing (each shard; names checked, sorted)": listing_step,
    "planning (each shard; the former too, without reading files)": planning_step,
    "one poke": poke_step,
    "resume (each shard; plan and parts read)": resume_step,
    "await with include_items": items_step,
}


def simulate(balls: int, shards: int) -> None:
    """Measure every simulated step."""
    say(f"\n{balls:,} balls in {shards} shards\n")
    say("| step | seconds | MB | tells |\n|---|---|---|---|")
    for name, step in STEPS.items():
        if step is poke_step:  # created before, so that it does not count as the poke's memory
            ANSWERS[balls, shards] = an_answer(the_records(balls, shards, FULL_PART + 1))
        told = measured(step, balls, shards)
        seconds = told.get("own seconds", told["seconds"])
        rest = ", ".join(f"{name} {told[name]:,}" for name in ("balls", "record", "xcom") if name in told)
        say(f"| {name} | {seconds:.2f} | {told['MB']:.0f} | {rest} |")


# -- for real ----------------------------------------------------------------------------------------------------------


async def upload_for_real(vss: LocalVSS, folder: Path, files: int) -> None:
    """Upload files, upload them again, and poke."""
    for number in range(files):
        (folder / f"{number:05}").write_bytes(number.to_bytes(4, "big") * 256)
    bulk_id, bucket_id = f"files-{files}", f"frames-{files}"
    async with AsyncClient(vss.uri, "benchmark", debug=False, log_output_path=None) as client:

        async def attempt() -> float:
            began = time.perf_counter()
            result = await ShardUpload(
                client,
                BulkSpec(bulk_id, [str(folder)], bucket_id),
                0,
                lambda: list_sources(str(folder), bucket_id),
                {"owner": "benchmark"},
                AttemptOptions(max_concurrency=16),
                lambda line: None,
            ).run()
            assert result.failed == 0, result.failures[:3]
            return time.perf_counter() - began

        first = await attempt()
        again = await attempt()
        vss.reset_requests()
        began = time.perf_counter()
        await bulk_status(client, bulk_id)
        poke, requests = time.perf_counter() - began, len(vss.requests())
        summary = await await_bulk(client, bulk_id, timeout=0)
        say(
            f"| {files:,} | {first:.1f} | {files / first:.0f} | {again:.1f} | {poke * 1000:.0f} | {requests} | "
            f"{len(json.dumps(summary)):,} |"
        )


def for_real(most: int) -> None:
    """Measure with a tenth of the files, and with all."""
    say("\nfiles of 1,024 bytes, to a local VSS on this machine, one shard, 16 at once\n")
    say("| files | seconds | files/s | a second attempt (seconds) | one poke (ms) | its requests | XCom (bytes) |")
    say("|---|---|---|---|---|---|---|")
    for files in sorted({most // 10, most}):
        with tempfile.TemporaryDirectory() as folder, LocalVSS(Path(folder) / "vss") as vss:
            (Path(folder) / "files").mkdir()
            asyncio.run(upload_for_real(vss, Path(folder) / "files", files))


def say(line: str) -> None:
    """Print a line and flush."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the measurements and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--balls", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--files", type=int, default=10_000)
    told = parser.parse_args()
    simulate(told.balls // 10, told.shards // 10 or 1)
    simulate(told.balls, told.shards)
    if told.files:
        for_real(told.files)


if __name__ == "__main__":
    main()
