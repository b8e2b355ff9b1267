"""
Takes guards away, one at a time, and sees that a test notices: ``make mutants [MUTANTS="upload.py"]``.

Each mutant is a piece of the package's text and what is put in its place. The tests that are named have to fail then; a mutant
that they let live is a guard that nobody watches. Everything happens in a copy of the project. Standard library only.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = "airflow_provider_mictlanx"

_COPIED = (PACKAGE, "tests", "docs", "scripts", "example_dags", "pyproject.toml", "CHANGELOG.md", "README.md")
_LONGEST = 600
"""The tests of one mutant are given up after so long (seconds): a mutant that hangs was noticed too."""

WRITING = "tests/integration/client/test_traps_writing.py"
READING = "tests/integration/client/test_traps_reading.py"
OPERATIONS = "tests/integration/client/test_operations.py"
MEETINGS = "tests/integration/concurrency/test_interleavings.py"
GRID = "tests/integration/hidden_states/test_grid.py"
VERSIONS = "tests/unit/client/test_versions.py"
STATUS = "tests/unit/bulks/test_status.py"
PLAN = "tests/unit/bulks/test_plan.py"
BULK = "tests/integration/bulks/test_bulk.py"
TAKING_OVER = "tests/integration/bulks/test_taking_over.py"


@dataclass(frozen=True)
class Mutant:
    """
    A guard that is taken away.

    :ivar file: in the package
    :ivar guard: what it is for
    :ivar old: the text of it, which is in the file once
    :ivar new: what is put there
    :ivar tests: a file of tests
    :ivar names: those of its tests of which one has to fail
    """

    file: str
    guard: str
    old: str
    new: str
    tests: str
    names: tuple[str, ...]


def _mutants(file: str, *rows: tuple[str, str, str, str, Sequence[str]]) -> tuple[Mutant, ...]:
    return tuple(Mutant(file, guard, old, new, tests, tuple(names)) for guard, old, new, tests, names in rows)


MUTANTS = (
    *_mutants(
        "client/upload.py",
        (
            "the answer's peer_ids are the acknowledgement, not its status",
            "self._stored_on.update(answer.peer_ids)",
            "self._stored_on.update(answer.peer_ids or task.replicas)",
            WRITING,
            ["test_200_without_peer_ids_in_all_tries_is_an_error"],
        ),
        (
            "rf peers have to have it",
            "return len(self._stored_on) >= min(self._rf, len(peers.peer_ids))",
            "return len(self._stored_on) >= 1",
            WRITING,
            ["test_fewer_peer_ids_than_asked_in_all_tries_is_an_error"],
        ),
        (
            "only what is missing is announced again",
            "request = self._upload.announcement_of(self._chunk, self._rf - len(self._stored_on))",
            "request = self._upload.announcement_of(self._chunk, self._rf)",
            WRITING,
            ["test_only_the_replicas_that_are_missing_are_asked_for_again"],
        ),
        (
            "a lost answer is looked up",
            "self._unanswered = task.replicas",
            "self._unanswered = ()",
            WRITING,
            ["test_lost_answer_is_looked_up_before_anything_is_repeated"],
        ),
        (
            "a task is spent",
            "(router, task), self._task = self._task, None",
            "router, task = self._task",
            WRITING,
            ["test_task_is_used_once", "test_200_without_peer_ids_is_announced_and_sent_again"],
        ),
        (
            "the data goes to the router that gave the task",
            "self._task = (asked[-1], answer)",
            "self._task = (self._upload.routers.balancer.routers[0], answer)",
            WRITING,
            ["test_task_goes_to_the_router_that_gave_it"],
        ),
        (
            "other bytes are a conflict",
            "        if not self.options.replace:\n            raise self._conflict(others[0])",
            "        if not self.options.replace:\n            return",
            WRITING,
            ["test_other_bytes_are_a_conflict_and_nothing_is_announced"],
        ),
        (
            "the writer looks before it announces",
            "        found = await self.routers.repeat(self._look)\n        if others",
            "        found = []\n        if others",
            WRITING,
            ["test_other_bytes_are_a_conflict_and_nothing_is_announced", "test_same_bytes_are_not_sent_again"],
        ),
        (
            "the writer looks once more after its announcement",
            "        for version in versions:\n            if not self._is_same(version):\n                raise self._conflict(version)\n        if self._plan.size == 0:",
            "        if self._plan.size == 0:",
            WRITING,
            ["test_other_bytes_are_a_conflict_whoever_was_first_by_the_peers_clocks"],
        ),
        (
            "of two cuts of the same bytes the first wins",
            "return min(versions, key=lambda version: (version.begun_at, version.num_chunks)) in mine",
            "return True",
            WRITING,
            ["test_two_writers_of_the_same_bytes_in_two_cuts_agree_on_one"],
        ),
        (
            "what was announced has to be listed",
            "        if not mine:\n            raise UnavailableError(",
            "        if False:\n            raise UnavailableError(",
            WRITING,
            ["test_nothing_is_sent_while_the_own_announcement_is_not_listed"],
        ),
        (
            "incomplete bytes are completed in the cut that is there",
            "        if version is None or self._has_my_cut(version):\n            return",
            "        return",
            WRITING,
            ["test_incomplete_upload_is_completed_in_the_cut_that_is_there"],
        ),
        (
            "stored already is what was read back",
            "        await self.routers.repeat(putting.find_replicas)\n        await putting.put()\n",
            "        putting._stored_on.add('')\n        await putting.put()\n",
            WRITING,
            ["test_leftover_announcement_is_not_taken_for_the_data"],
        ),
        (
            "a copy that a peer brought back is not taken for a stored one",
            "await for_each(self._plan.chunks, lambda chunk: ChunkPut(self, chunk).put(), self.options.max_concurrency)",
            "await for_each(self._plan.chunks, self._complete, self.options.max_concurrency)",
            GRID,
            ["test_cell[brought_back-put]"],
        ),
        (
            "code 666 deletes nothing while a copy is readable",
            "        if self._stored_on and not upload.options.replace:\n            raise PutChunksError(",
            "        if False:\n            raise PutChunksError(",
            WRITING,
            ["test_666_on_a_chunk_with_too_few_replicas_deletes_no_copy"],
        ),
        (
            "code 666 deletes nothing at once: somebody may be sending",
            "if not self._met_without_data and upload.routers.rule.max_tries > 1:",
            "if False:",
            WRITING,
            ["test_666_without_data_waits_for_who_may_be_sending"],
        ),
        (
            "code 666 says nothing while a peer is away",
            'peers = await all_peers_there(upload.routers, f"looking who has {self._what}")',
            "peers = await upload.reader.peers()",
            WRITING,
            ["test_666_while_a_peer_is_away_is_no_proof_of_an_empty_ball"],
        ),
        (
            "code 666 deletes nobody's other bytes",
            "        self._stored_on.clear()\n        await upload.refuse_others()\n",
            "        self._stored_on.clear()\n",
            WRITING,
            ["test_666_for_other_bytes_is_a_conflict_and_deletes_nothing"],
        ),
        (
            "code 666 deletes nothing while a peer is left out of the listing",
            "        await self._check_that_all_are_listed(len(peers.peer_ids))\n",
            "",
            WRITING,
            ["test_666_with_a_peer_left_out_of_the_listing_deletes_nothing"],
        ),
        (
            "the user's tags don't win",
            "**self.options.tags, **self._chunk_tags.get(chunk.index, {}), **self._own_tags, **self.place_of(chunk)",
            "**self._own_tags, **self.place_of(chunk), **self._chunk_tags.get(chunk.index, {}), **self.options.tags",
            OPERATIONS,
            ["test_tags_are_stored_and_the_clients_own_win"],
        ),
        (
            "stored bytes that were filtered are other bytes",
            "        if version.filters:\n            return False\n",
            "",
            READING,
            ["test_put_over_a_filtered_ball_is_a_conflict_even_with_the_same_stored_bytes"],
        ),
    ),
    *_mutants(
        "client/chunks.py",
        (
            "what is sent is what was hashed",
            "    if digest.hexdigest() != chunk.checksum:\n        raise IntegrityError(",
            "    if False:\n        raise IntegrityError(",
            OPERATIONS,
            ["test_file_that_changes_while_it_is_put_is_not_stored_mixed"],
        ),
    ),
    *_mutants(
        "client/removal.py",
        (
            "nothing is deleted while a peer is away",
            '            await all_peers_there(self._routers, f"{doing} {name}")\n',
            "",
            WRITING,
            ["test_replace_while_a_peer_is_away_deletes_nothing"],
        ),
        (
            "every chunk key that was seen is deleted too",
            "now = await self._delete(name, {chunk.key for chunk in listed} | {name.chunk(0)})",
            "now = await self._delete(name, set())",
            READING,
            ["test_delete_clears_the_placement_too", "test_delete_clears_the_placement_of_every_chunk_that_was_seen"],
        ),
        (
            "fewer deletes than replicas are no success",
            "            if now < len(listed) or await",
            "            if await",
            READING,
            ["test_fewer_deletes_than_replicas_listed_is_looked_into"],
        ),
        (
            "a peer that missed the delete is looked for",
            "                if missed:\n                    await self._see_no_peer_with(name)\n",
            "",
            READING,
            ["test_delete_that_a_peer_missed_is_no_success_while_that_peer_is_left_out_of_the_listing"],
        ),
        (
            "a bucket is listed again until it is empty",
            "            if not balls or round_number == ROUNDS or",
            "            if not balls or round_number == 1 or",
            READING,
            ["test_delete_bucket_lists_again_until_nothing_is_left"],
        ),
        (
            "what came in meanwhile is reported",
            "            failed=len(left),",
            "            failed=0,",
            MEETINGS,
            ["test_bucket_that_is_written_to_all_the_time_is_reported_as_not_empty"],
        ),
    ),
    *_mutants(
        "client/lookup.py",
        (
            "absent is not believed while a peer is away",
            "    if found.unavailable:\n        away",
            "    if False:\n        away",
            READING,
            ["test_missing_while_a_peer_is_away_is_not_known", "test_ball_on_a_peer_that_is_away_is_not_absent"],
        ),
        (
            "a bucket's listing has to name every peer",
            "    if missing:\n        raise UnavailableError(",
            "    if False:\n        raise UnavailableError(",
            READING,
            ["test_bucket_listing_that_lacks_a_peer_is_not_believed"],
        ),
        (
            "a placed ball that nobody lists is not absent",
            "    if placed:\n        raise UnavailableError(",
            "    if False:\n        raise UnavailableError(",
            READING,
            [
                "test_500_no_metadata_found_is_no_no",
                "test_404_for_metadata_and_chunks_of_a_placed_ball_is_no_no",
                "test_ball_listing_that_lacks_a_peer_is_not_believed",
            ],
        ),
        (
            "an empty ball is looked up by its chunk's metadata",
            "if (first := await first_chunk(routers, name)).size == 0:",
            "if (first := await first_chunk(routers, name)).size == -1:",
            WRITING,
            ["test_empty_ball_is_stored_found_and_read_back_empty"],
        ),
    ),
    *_mutants(
        "client/versions.py",
        (
            "a version has every chunk",
            "return all(index in self.chunks for index in range(self.num_chunks))",
            "return True",
            VERSIONS,
            ["test_missing_index_is_not_whole", "test_whole_versions_come_first_even_older_ones"],
        ),
        (
            "chunks of other bytes never belong together",
            "groups[chunk.full_checksum, chunk.num_chunks].append(chunk)",
            "groups[None, chunk.num_chunks].append(chunk)",
            VERSIONS,
            ["test_versions_of_other_bytes_are_never_mixed"],
        ),
        (
            "the newest whole version comes first",
            "key=lambda v: (v.whole, v.updated_at, v.begun_at), reverse=True)",
            "key=lambda v: (v.whole, v.updated_at, v.begun_at))",
            VERSIONS,
            ["test_whole_versions_come_first_even_older_ones"],
        ),
        (
            "chunks of two even cuts are told apart",
            "alike = [chunk for chunk in choice if chunk.size == start.size] or choice",
            "alike = choice",
            VERSIONS,
            ["test_two_cuts_that_were_announced_in_turns_are_both_found"],
        ),
    ),
    *_mutants(
        "client/reader.py",
        (
            "stored already is what a peer gives, not the router's cache",
            "await self._read_once(chunk, 0, NullSink(), True, peer_id)",
            "await self._read_once(chunk, 0, NullSink(), False, peer_id)",
            GRID,
            ["test_cell[cached_only-put]", "test_cell[cached_only-bulk]"],
        ),
        (
            "every peer is asked",
            "        for peer in peers.available:\n            try:",
            "        for peer in peers.available[:0]:\n            try:",
            READING,
            ["test_replica_only_one_peer_has_is_found"],
        ),
        (
            "size and SHA-256 are compared",
            '        await gathering.compare(f"peer {peer_id}" if peer_id else "the router", chunk.size, chunk.checksum)\n',
            "        await gathering.compare(peer_id, gathering.size, gathering.checksum)\n",
            READING,
            ["test_wrong_in_every_replica_is_an_integrity_error", "test_one_replica_that_is_wrong_is_passed_over"],
        ),
    ),
    *_mutants(
        "client/download.py",
        (
            "the next older version is read",
            "        if not self.is_last:\n            self._at += 1\n            return\n",
            "",
            READING,
            ["test_newer_announcement_without_data_does_not_hide_an_older_ball"],
        ),
        (
            "a ball that was replaced meanwhile is looked up again",
            "        self._versions, self._at = now, 0\n",
            "        raise error\n",
            MEETINGS,
            ["test_reader_during_a_replace_sees_old_or_new_or_nothing"],
        ),
        (
            "the whole is compared",
            "    if version.checksum is not None and checksum != version.checksum:\n        raise IntegrityError(",
            "    if False:\n        raise IntegrityError(",
            READING,
            ["test_chunks_that_are_right_and_a_whole_that_is_not"],
        ),
        (
            "another file is left as it is",
            "                if not replace:\n                    raise FileAlreadyExists(",
            "                if False:\n                    raise FileAlreadyExists(",
            OPERATIONS,
            ["test_another_file_is_left_alone_unless_it_is_to_be_replaced"],
        ),
        (
            "no stored byte of a filtered ball is handed out",
            "    if not plain:\n        raise UpstreamProtocolError(",
            "    if False:\n        raise UpstreamProtocolError(",
            READING,
            ["test_filtered_ball_is_refused_and_no_stored_bytes_are_handed_out"],
        ),
        (
            "a file's name leaves no folder",
            'return safe_file_name(tags.get("fullname", "")) or by_id',
            'return tags.get("fullname", "") or by_id',
            READING,
            ["test_path_in_tags_does_not_leave_the_folder"],
        ),
    ),
    *_mutants(
        "client/names.py",
        (
            "a key that is no safe id is mapped",
            "    if is_safe_id(key):\n        return key\n",
            "    return key\n",
            WRITING,
            ["test_unsafe_key_is_stored_under_its_sha256_and_read_back_by_its_name"],
        ),
    ),
    *_mutants(
        "bulks/status.py",
        (
            "complete is when all shards are",
            "complete = records.shards > 0 and records.shards == sum(shard.complete for shard in shards)",
            "complete = any(shard.complete for shard in shards)",
            STATUS,
            ["test_complete_means_that_every_shard_has_a_good_end", "test_shards_that_are_missing"],
        ),
        (
            "contradictions are a failure",
            "    if complete and not contradictions:",
            "    if complete:",
            STATUS,
            ["test_contradiction"],
        ),
        (
            "a part of the records says only what is good",
            "    if not records.complete:  # neither",
            "    if False:  # neither",
            STATUS,
            ["test_a_part_of_the_records_says_only_what_is_good"],
        ),
        (
            "a failure that will be retried is none yet",
            "and not end.good and not end.will_retry,",
            "and not end.good,",
            STATUS,
            ["test_failure_that_a_retry_may_mend", "test_failed_means_that_a_latest_attempt_ended_without_a_next"],
        ),
        (
            "only the end of the same plan counts",
            "reports = [report for report in records.reports if report.plan == plan.digest]",
            "reports = records.reports",
            STATUS,
            ["test_end_that_belongs_to_another_plan"],
        ),
        (
            "a loss takes back what was complete",
            "return [report for report in reports if _place_of(report) >= since]",
            "return reports",
            STATUS,
            ["test_loss_takes_back_what_was_complete", "test_complete_means_that_every_shard_has_a_good_end"],
        ),
        (
            "a lost ball needs a later acknowledgement",
            "        for index in lost[place]:\n            done.pop(index, None)\n",
            "",
            STATUS,
            ["test_only_later_reports_acknowledge_a_lost_ball"],
        ),
        (
            "a loss whose bytes are lost may be any ball",
            "        if len(lost[place]) < told[place]:",
            "        if False:",
            STATUS,
            ["test_loss_that_can_not_be_read_is_any_ball"],
        ),
        (
            "closed is the last word",
            "    if records.closed:\n        return BulkStatus",
            "    if False:\n        return BulkStatus",
            STATUS,
            ["test_closed_is_the_last_word"],
        ),
    ),
    *_mutants(
        "bulks/records.py",
        (
            "a record that was cut short does not count",
            "        whole = [version for version in versions_of(chunks) if version.whole]\n",
            "        whole = versions_of(chunks)\n",
            STATUS,
            ["test_record_that_was_cut_short_does_not_count"],
        ),
        (
            "records of another bulk are refused",
            "        if is_record(chunk.ball_id) and chunk.tags.get(BULK_TAG) != bulk_id:",
            "        if False:",
            STATUS,
            ["test_records_of_another_bulk_are_refused"],
        ),
    ),
    *_mutants(
        "bulks/plan.py",
        (
            "a plan is what its record says",
            "    if hashlib.sha256(content).hexdigest() != record.digest:",
            "    if False:",
            PLAN,
            ["test_plan_is_canonical_and_read_back"],
        ),
    ),
    *_mutants(
        "bulks/upload.py",
        (
            "another spec is refused",
            "            if start.spec != self._spec_text:\n                raise BulkConflictError(",
            "            if False:\n                raise BulkConflictError(",
            BULK,
            ["test_other_owner_or_spec"],
        ),
        (
            "another owner is refused",
            "            if start.shard == self._shard and start.owner != self._owner:",
            "            if False:",
            BULK,
            ["test_other_owner_or_spec"],
        ),
        (
            "a closed bulk is not uploaded again",
            "        if records.closed:\n            raise BulkConflictError(",
            "        if False:\n            raise BulkConflictError(",
            BULK,
            ["test_closed"],
        ),
        (
            "lost balls are recorded on as many peers as a start",
            "await self._record_part(at_any_rate=False)",
            "await self._record_part()",
            TAKING_OVER,
            ["test_loss_has_to_be_recorded_on_as_many_peers_as_a_start"],
        ),
        (
            "with an earlier attempt's plan a source is hashed before its ball is found stored",
            "known = self._planning.is_new and ball.size <= ball.chunk_size",
            "known = ball.size <= ball.chunk_size",
            TAKING_OVER,
            ["test_file_that_changed_before_it_was_recorded"],
        ),
    ),
    *_mutants(
        "bulks/inventory.py",
        (
            "an acknowledged ball that is not listed as planned is lost",
            "        return acknowledged.keys() - announced.keys()\n",
            "        return set()\n",
            TAKING_OVER,
            ["test_cleared_run_sends_what_was_deleted", "test_lost_ball_is_sent_again"],
        ),
        (
            "what was announced after its record is read",
            "if at > acknowledged[index] and balls[index].size}",
            "if False}",
            TAKING_OVER,
            ["test_announced_anew_without_data"],
        ),
        (
            "what a storage check could not read is read",
            "sorted(newer | announced.keys() & in_doubt)",
            "sorted(newer)",
            TAKING_OVER,
            ["test_unreadable_ball_that_is_listed_is_mended_after_a_check"],
        ),
        (
            "balls of size 0 are asked for",
            "(by_bucket[balls[index].bucket_id] if balls[index].size else single).append(index)",
            "by_bucket[balls[index].bucket_id].append(index)",
            TAKING_OVER,
            ["test_empty_balls"],
        ),
        (
            "a ball is listed with the plan's checksum",
            "return plain and (found.size, checksum) == (ball.size, ball.checksum)",
            "return plain",
            TAKING_OVER,
            ["test_other_bytes_under_a_key_since_then", "test_chunk_that_is_lost"],
        ),
        (
            "the listing of a bucket far larger than the bulk is not read to its end",
            "longest = min(balls * ROWS_PER_BALL * ROW, LONGEST)",
            "longest = LONGEST",
            TAKING_OVER,
            ["test_bucket_far_larger_than_the_bulk"],
        ),
        (
            "only where every peer answers is a ball lost that cannot be found",
            "            await self._store.check_peers(str(error))\n",
            "",
            TAKING_OVER,
            ["test_peer_that_does_not_answer"],
        ),
    ),
    *_mutants(
        "bulks/planning.py",
        (
            "lost balls are recorded before one of them is announced",
            "            await self._record_lost()\n",
            "",
            TAKING_OVER,
            ["test_killed_after_it_recorded_the_loss", "test_loss_that_can_not_be_recorded_stops_the_attempt"],
        ),
        (
            "whoever relies on another attempt's record of lost balls records them too",
            "        lost |= taken_back_balls(mine, plan.record, reports)\n",
            "",
            TAKING_OVER,
            ["test_loss_has_to_be_recorded_on_as_many_peers_as_a_start"],
        ),
        (
            "the source of an acknowledged ball is compared with the plan",
            "        if now.checksum != ball.checksum:",
            "        if False:",
            TAKING_OVER,
            ["test_file_that_changed_in_place"],
        ),
        (
            "only sources that are as they were need not be compared",
            "        if mark and report.sources == mark:",
            "        if True:",
            TAKING_OVER,
            ["test_file_that_changed_in_place"],
        ),
        (
            "a file of another size than its stored ball is a failure",
            "if here is not None and here.size != ball.size:",
            "if here is not None and here.size != ball.size and index not in ledger.acknowledged:",
            TAKING_OVER,
            ["test_grown_or_gone_after_it_was_stored"],
        ),
        (
            "what another attempt stored since is asked for too",
            "others.keys() - await self._lost(plan, others, mine)",
            "others.keys()",
            TAKING_OVER,
            ["test_what_another_attempt_stored_may_be_lost_again"],
        ),
    ),
    *_mutants(
        "bulks/ledger.py",
        (
            "a changed source is a failure, whatever records acknowledge",
            "            if index not in self._changed:",
            "            if True:",
            TAKING_OVER,
            ["test_file_that_changed_in_place"],
        ),
    ),
    *_mutants(
        "bulks/sources.py",
        (
            "a file's mark has the time that can't be set back",
            "status.st_mtime_ns, status.st_ctime_ns, status.st_ino",
            "status.st_mtime_ns, status.st_ino",
            TAKING_OVER,
            ["test_file_that_changed_in_place"],
        ),
        (
            "times of other stores are no marks of their content",
            "if name.lower() in CONTENT and info[name] is not None]",
            "if info[name] is not None]",
            TAKING_OVER,
            ["test_file_of_another_store_whose_time_is_set_back"],
        ),
    ),
    *_mutants(
        "client/router.py",
        (
            "a listing that is too long is not asked for again",
            "                error.transient = False  # asking again",
            "                pass  # asking again",
            TAKING_OVER,
            ["test_bucket_far_larger_than_the_bulk"],
        ),
    ),
)


def source_of(mutant: Mutant, root: Path = PROJECT) -> Path:
    """Give the file that is changed."""
    return root / PACKAGE / mutant.file


def main() -> int:
    """Run the mutants that were asked for; the status is the number of those that live."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("only", nargs="*", help="a piece of a file's name or of a guard; all where there is none")
    arguments.add_argument("--jobs", type=int, default=2, help="at once (2)")
    told = arguments.parse_args()
    chosen = [m for m in MUTANTS if not told.only or any(piece in f"{m.file} {m.guard}" for piece in told.only)]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(told.jobs) as pool:
        results = [pool.submit(_kill, mutant, Path(folder) / str(at)) for at, mutant in enumerate(chosen)]
        living = 0
        for mutant, result in zip(chosen, results, strict=True):
            problem, seconds = result.result()
            living += bool(problem)
            print(f"{'ALIVE ' if problem else 'caught'} {seconds:5.1f} s  {mutant.file}: {mutant.guard}", flush=True)
            if problem:
                print(problem, flush=True)
    print(f"{len(chosen) - living} of {len(chosen)} mutants were caught, in {time.monotonic() - started:.0f} s")
    return min(living, 100)


def _kill(mutant: Mutant, root: Path) -> tuple[str, float]:
    """Run a mutant's tests on it; gives why it lives, or nothing, and how long that took (seconds)."""
    started = time.monotonic()
    for name in _COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    path = source_of(mutant, root)
    text = path.read_text()
    if text.count(mutant.old) != 1:
        return "its text is not in the file once", 0.0
    path.write_text(text.replace(mutant.old, mutant.new))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--show-capture=no", "--tb=short"]
    command += [mutant.tests, "-k", " or ".join(mutant.names)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LONGEST,
        )
    except subprocess.TimeoutExpired:
        return "", time.monotonic() - started
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return "" if done.returncode == 1 else done.stdout[-2000:], time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
