"""
Remove guards from the code, one at a time, and check that a test fails: ``make mutants [MUTANTS="upload.py"]``.

Each mutant replaces a part of the package's source. The named tests must pass before and fail then. A mutant that
survives is a guard without a test. Everything runs in copies of the project.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import NoReturn

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = "airflow_provider_mictlanx"

_COPIED = (PACKAGE, "tests", "docs", "scripts", "example_dags", "pyproject.toml", "CHANGELOG.md", "README.md")
_LONGEST = 120
"""Timeout for the tests of one mutant (seconds), or ten times what they take without it."""
_IMPORTED_ONCE = (
    *("pytest", "hypothesis", "pytest_asyncio.plugin", "pytest_timeout", "pytest_randomly", "xdist.plugin"),
    *("anyio", "httpx", "jinja2", "msgspec", "pendulum", "pydantic", "requests", "rich.console"),
    *("sqlalchemy.orm", "sqlalchemy.ext.asyncio", "structlog", "tenacity", "uvicorn", "starlette.applications"),
)
"""Modules that tests import besides the package and Airflow; each run is forked from a process that has imported them."""

WRITING = "tests/integration/client/transfer/test_traps_writing.py"
FAILED_DATA = "tests/integration/client/transfer/test_failed_data.py"
UNSENT = "tests/integration/client/transfer/test_unsent_announcements.py"
SILENT_PEERS = "tests/integration/client/transfer/test_silent_peers.py"
READING = "tests/integration/client/transfer/test_traps_reading.py"
LISTED = "tests/integration/client/transfer/test_listed_objects.py"
OWN_KEYS = "tests/integration/client/transfer/test_own_keys.py"
LENGTHS = "tests/integration/client/transfer/test_unrecorded_lengths.py"
OPERATIONS = "tests/integration/client/test_operations.py"
CHUNKS = "tests/integration/client/transfer/test_chunks.py"
MEETINGS = "tests/robustness/concurrency/test_interleavings.py"
GRID = "tests/robustness/hidden_states/test_grid.py"
LISTINGS = "tests/unit/client/protocol/test_listing_parser.py"
VERSIONS = "tests/unit/client/test_versions.py"
STATUS = "tests/unit/bulks/test_status.py"
PLAN = "tests/unit/bulks/test_plan.py"
BULK = "tests/integration/bulks/test_bulk.py"
RESERVED = "tests/integration/client/test_reserved_buckets.py"
RESERVED_IN_AIRFLOW = "tests/integration/operators/test_reserved_buckets.py"
NAMED = "tests/integration/client/test_error_names.py"
NAMED_IN_AIRFLOW = "tests/integration/hooks/test_error_names.py"
CONNECTION = "tests/unit/hooks/test_connection.py"
FOLDER_VERSIONS = "tests/integration/batches/test_folder_versions.py"
BUNDLES = "tests/integration/bundles/test_mictlanx.py"
PLACES = "tests/unit/batches/test_local_paths.py"
FOLDER = "tests/integration/operators/test_get_to_folder.py"
SYNC = "tests/integration/operators/test_sync.py"
EXPORT = "tests/integration/operators/test_export.py"
ENGINES = "tests/integration/client/transport/test_engines.py"
ENGINE_ANSWERS = "tests/integration/client/transport/test_engine_answers.py"
ENGINE_LIFE = "tests/integration/client/transport/test_engine_lifecycle.py"
HOSTILE_ANSWERS = "tests/robustness/hostile/test_answers.py"
HOSTILE_UPLOADS = "tests/robustness/hostile/test_uploads.py"
SPELLINGS = "tests/robustness/fuzzing/test_clean_texts.py"
TEXTS = "tests/unit/client/test_texts.py"
SERVERS = "tests/integration/security/test_server_texts.py"
OUTAGES = "tests/integration/client/transfer/test_outages.py"
OUTAGES_IN_AIRFLOW = "tests/integration/hooks/test_outages.py"
EMPTY = "tests/integration/client/transfer/test_empty_objects.py"
EMPTY_ROWS = "tests/unit/client/test_empty_objects.py"
EMPTY_STATES = "tests/robustness/hidden_states/test_empty_objects.py"
SPLITTER = "tests/unit/client/local_io/test_chunk_splitter.py"
LIMITS = "tests/unit/client/test_concurrency.py"
TAKING_OVER = "tests/integration/bulks/test_inventory.py"
FILES = "tests/integration/fs/test_traps.py"
EVENTS = "tests/integration/triggers/test_events.py"
MANY_OBJECTS = "tests/integration/sensors/test_many_objects.py"
EVENT_STATES = "tests/unit/triggers/test_events.py"
IMPORTS = "tests/unit/test_imports.py"
UPKEEP = "tests/integration/operators/test_upkeep.py"
SHELL = "tests/integration/cli/test_process.py"
PAGE = "tests/integration/plugins/test_permissions.py"
LOOKS = "tests/integration/plugins/test_looks.py"


@dataclass(frozen=True)
class Mutant:
    """
    A guard to remove.

    :ivar file: path within the package
    :ivar guard: what the guard does
    :ivar old: its source, which occurs exactly once in the file
    :ivar new: the replacement
    :ivar tests: a test file
    :ivar names: tests in that file; at least one must fail
    """

    file: str
    guard: str
    old: str
    new: str
    tests: str
    names: tuple[str, ...]


def _mutants(file: str, *rows: tuple[str, str, str, str, Sequence[str]]) -> tuple[Mutant, ...]:
    return tuple(Mutant(file, guard, old, new, tests, tuple(names)) for guard, old, new, tests, names in rows)


WINDOWS = "tests/integration/client/transfer/test_upload_windows.py"
COPY_WINDOWS = "tests/integration/client/transfer/test_copy_windows.py"
UPLOADS = "tests/integration/batches/test_upload.py"
GRACE_TESTS = "tests/unit/client/transfer/test_grace.py"
LOGS = "tests/integration/log/test_mictlanx.py"

MUTANTS = (
    *_mutants(
        "log/storage.py",
        (
            "a reader takes every byte of a log once",
            "Span(part.ball, max(0, covered - part.start), ",
            "Span(part.ball, 0, ",
            LOGS,
            ["test_upload_killed_before_it_records_what_is_stored"],
        ),
        (
            "a line of several parts is joined, but not with another log's",
            "if rest and (not span.continues or",
            "if rest and (",
            LOGS,
            ["test_line_of_several_parts_is_one_line"],
        ),
        (
            "a log that was written anew is another file",
            "if _checksum(content, state.head) == state.checksum and",
            "if",
            LOGS,
            ["test_upload_of_a_file_that_was_written_anew"],
        ),
        (
            "other data in the base bucket is not deleted",
            "                    continue  # other data in the base bucket\n",
            "                    pass\n",
            LOGS,
            ["test_delete_runs_deletes_only_old_ones"],
        ),
    ),
    *_mutants(
        "log/mictlanx.py",
        (
            "a local log that has grown since is not emptied",
            "if self.delete_local_copy and local.stat().st_size == stored:",
            "if self.delete_local_copy:",
            LOGS,
            ["test_delete_local_copy_keeps_what_is_not_stored"],
        ),
        (
            "only files below the folder of the logs are stored",
            "if not local.is_relative_to(base):",
            "if False:",
            LOGS,
            ["test_upload_of_anything_but_a_log_stores_nothing"],
        ),
    ),
    *_mutants(
        "client/background_bulks.py",
        (
            "a ball that is added during the withdrawal is put",
            "            if not self.pending:  # balls may have been added meanwhile\n                return\n",
            "            return\n",
            WINDOWS,
            ["test_ball_added_while_a_stopped_bulk_withdraws_is_put"],
        ),
    ),
    *_mutants(
        "client/transfer/upload_window.py",
        (
            "the balls of a stopped bulk are not announced later",
            "        self._queue.clear()\n",
            "",
            WINDOWS,
            ["test_balls_of_a_stopped_bulk_are_not_announced_later"],
        ),
        (
            "a ball that was not added opens no window",
            "        if number not in self._added:\n            return None\n        self._added.remove(number)\n",
            "",
            WINDOWS,
            ["test_ball_without_window_opens_no_window"],
        ),
        (
            "a ball that the first listing shows is put by itself",
            "if rows := bucket.seen.pop(name.ball_id, None):",
            "if (rows := bucket.seen.pop(name.ball_id, [])) and not rows:",
            WINDOWS,
            ["test_copy_without_placement_is_a_conflict"],
        ),
        (
            "every peer has to take part in the listing of a window",
            "listing.list_bucket(quick, bucket_id, max_size)",
            "listing.list_small_bucket(quick, bucket_id, max_size)",
            WINDOWS,
            ["test_silent_peer_stops_a_window_before_its_data"],
        ),
        (
            "a failed announcement ends a window",
            'window ends before it: %s", name, error)\n                self._disturbed = True',
            'window ends before it: %s", name, error)',
            WINDOWS,
            ["test_failed_announcement_ends_the_window"],
        ),
        (
            "a window is short in time",
            "if window and time.monotonic() - began > ANNOUNCING_SECONDS:",
            "if False:",
            WINDOWS,
            ["test_window_is_short_in_time"],
        ),
        (
            "a window has few bytes",
            "            room -= self._sizes[number]\n",
            "",
            WINDOWS,
            ["test_bytes_limit_a_window"],
        ),
        (
            "a late ball makes the next window smaller",
            "if isinstance(found, Announced) and found.is_late:",
            "if False:",
            WINDOWS,
            ["test_late_ball_is_listed_by_itself"],
        ),
        (
            "the announcements of a stopped bulk are withdrawn",
            "                await for_each(unused, Announced.withdraw, self.max_concurrency)\n",
            "                pass\n",
            WINDOWS,
            ["test_stopped_bulk_withdraws_its_announcements"],
        ),
        (
            "a bucket far larger than the bulk has no windows",
            "if rows > ROWS_PER_BALL * min(self._left[bucket_id], LARGEST_WINDOW):",
            "if False:",
            WINDOWS,
            ["test_bucket_with_many_rows_has_no_windows"],
        ),
    ),
    *_mutants(
        "client/transfer/copy.py",
        (
            "the announcement of a copy is withdrawn if its original is unreadable",
            "                await known.withdraw()\n",
            "",
            COPY_WINDOWS,
            ["test_copy_of_unreadable_original_is_withdrawn"],
        ),
        (
            "the bytes of a copy in a window are verified",
            "checksum, data = await self._source.hash_version(name, listed, retry_missing)",
            'checksum, data = listed.checksum or "", b""',
            COPY_WINDOWS,
            ["test_original_overwritten_after_the_listing_is_copied_as_it_is"],
        ),
    ),
    *_mutants(
        "batches/copy.py",
        (
            "stopped and cancelled copies withdraw their announcements",
            "await windows.withdraw()\n",
            "pass\n",
            COPY_WINDOWS,
            [
                "test_stopped_copies_withdraw_their_announcements",
                "test_cancelled_copies_withdraw_their_announcements",
            ],
        ),
    ),
    *_mutants(
        "batches/upload.py",
        (
            "a cancelled upload withdraws its announcements",
            "await windows.withdraw()\n",
            "pass\n",
            UPLOADS,
            ["test_cancelled_upload_withdraws_its_announcements"],
        ),
    ),
    *_mutants(
        "batches/delete.py",
        (
            "a key of a ball and of another object deletes only the ball",
            "if len(group_by_object(rows)) == 1}",
            "}",
            LISTED,
            ["test_key_of_a_ball_and_an_own_key_deletes_the_ball"],
        ),
        (
            "keys that are not listed are confirmed by themselves",
            "others = {key: () for key in wanted if key not in known}",
            "others = {key: () for key in wanted if not known}",
            LISTED,
            ["test_keys_that_are_not_listed_are_confirmed_alone"],
        ),
        (
            "the listing for keys is limited",
            "limit = listing_limit(len(wanted))",
            "limit = None",
            LISTED,
            ["test_keys_of_a_far_larger_bucket_are_deleted_alone"],
        ),
    ),
    *_mutants(
        "client/transfer/upload.py",
        (
            "a late withdrawal reads back first",
            "self.upload.only_announced = not self.is_late",
            "self.upload.only_announced = True",
            WINDOWS,
            ["test_late_withdrawal_keeps_what_another_attempt_stored"],
        ),
        (
            "a look directly before each announcement of a window",
            "            await get_first_chunk(self.routers, self.name)\n        except NotFoundError:\n            pass\n",
            "            raise NotFoundError\n        except NotFoundError:\n            pass\n",
            WINDOWS,
            ["test_rival_before_the_look_is_found_though_listings_hide_it"],
        ),
        (
            "a rival in the listing of a window stops the ball",
            "set(self.first.replicas) <= set(peer_ids) and self.upload.is_alone(listed)",
            "set(self.first.replicas) <= set(peer_ids)",
            WINDOWS,
            ["test_rival_between_announcement_and_listing_is_a_conflict"],
        ),
        (
            "an own announcement that the listing hides is looked for",
            "return bool(versions) and all(",
            "return all(",
            WINDOWS,
            ["test_own_replica_that_is_not_listed_is_looked_for"],
        ),
        (
            "the same bytes in another layout stop the ball of a window",
            "all(self._is_same(version) and self._has_own_layout(version) for version in versions)",
            "all(self._is_same(version) for version in versions)",
            WINDOWS,
            ["test_same_bytes_in_another_layout_are_continued"],
        ),
        (
            "every peer of the announcement has to take part in the listing",
            "set(self.first.replicas) <= set(peer_ids) and self.upload.is_alone(listed)",
            "self.upload.is_alone(listed)",
            WINDOWS,
            ["test_peer_of_an_announcement_that_is_no_longer_named"],
        ),
        (
            "a listing of a window is valid for a limited time",
            "return self._is_confirmed and not self.is_late",
            "return self._is_confirmed",
            WINDOWS,
            ["test_late_ball_is_listed_by_itself"],
        ),
        (
            "what changed since its window announced it is not sent",
            "self._plan = await self._planned(layout, announced.plan)",
            "self._plan = announced.plan",
            WINDOWS,
            ["test_changed_file_is_withdrawn"],
        ),
        (
            "what changed since its window announced it is withdrawn",
            "        except IntegrityError:\n            await self._withdraw()\n            raise\n\n    async def _planned",
            "        except IntegrityError:\n            raise\n\n    async def _planned",
            WINDOWS,
            ["test_changed_file_is_withdrawn"],
        ),
    ),
    *_mutants(
        "client/transfer/chunk_upload.py",
        (
            "the grace time begins with the listing that showed the announcements",
            "return max(0.0, self._seen.at + GRACE - time.monotonic())",
            "return GRACE",
            GRACE_TESTS,
            ["test_grace_begins_with_the_listing"],
        ),
        (
            "the grace time begins anew for what that listing did not show",
            "if self._seen is None or not all(map(self._seen.shows, listed)):",
            "if self._seen is None:",
            GRACE_TESTS,
            ["test_grace_is_complete_for_what_was_not_seen"],
        ),
    ),
    *_mutants(
        "client/transfer/chunk_upload.py",
        (
            "no announcement is cleared while a peer that was not sent the data is silent",
            " or not (upload.only_announced or set(silent) <= set(sent_to))",
            "",
            SILENT_PEERS,
            ["test_refused_data_is_not_cleared_while_a_peer_is_silent"],
        ),
        (
            "an announcement without placement is cleared by ball id",
            "            await upload.routers.request(\n                lambda router, options: router.delete_by_ball_id",
            "            return\n            await upload.routers.request(\n                lambda router, options: router.delete_by_ball_id",
            SILENT_PEERS,
            ["test_announcement_that_failed_on_one_of_its_peers_is_cleared"],
        ),
        (
            "an announcement is not cleared by ball id if another object has that id",
            "listed = await list_rows(upload.routers, upload.name)  # a delete by ball id deletes objects with own keys too",
            "listed = await list_chunks(upload.routers, upload.name)",
            OWN_KEYS,
            ["test_failed_announcement_is_not_cleared_with_keys"],
        ),
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
            "request = self._upload.announcement_for(self._chunk, self._rf - len(self._stored_on))",
            "request = self._upload.announcement_for(self._chunk, self._rf)",
            WRITING,
            ["test_only_the_replicas_that_are_missing_are_asked_for_again"],
        ),
        (
            "data that failed is read back before it is sent again",
            "            await self._read_back(task.replicas)\n            self._sent = self._sent or",
            "            self._sent = self._sent or",
            FAILED_DATA,
            ["test_data_that_was_stored_before_the_failure_is_read_back"],
        ),
        (
            "an answer without peers is read back: an earlier send may have stored the data",
            "        await self._read_back(task.replicas)  # a send",
            "        # a send",
            FAILED_DATA,
            ["test_resend_that_is_answered_without_peers_is_read_back"],
        ),
        (
            "an announcement without data is cleared before the next one",
            "        await self._clear(task.replicas)\n",
            "",
            FAILED_DATA,
            [
                "test_refused_data_is_cleared_before_it_is_announced_anew",
                "test_a_peer_that_refuses_all_data_costs_no_put",
            ],
        ),
        (
            "an announcement whose answer was lost is cleared",
            "                    await self._clear((), is_answer_lost=True)\n",
            "",
            FAILED_DATA,
            ["test_announcement_whose_answer_was_lost_is_cleared"],
        ),
        (
            "a listed announcement is read back first if the answer to this put's own was lost",
            "if is_answer_lost or not upload.only_announced:",
            "if not upload.only_announced:",
            WRITING,
            ["test_lost_announcement_deletes_no_data_of_its_namesake"],
        ),
        (
            "no announcement of another writer is cleared",
            "if self._stored_on or not replicas or not upload.is_own(replicas):",
            "if self._stored_on or not replicas:",
            FAILED_DATA,
            ["test_clearing_deletes_no_announcement_of_another_writer"],
        ),
        (
            "rivals are looked for before data is sent to a second announcement",
            "if again or self._cleared:",
            "if self._cleared:",
            FAILED_DATA,
            ["test_rival_before_second_announcement_is_conflict"],
        ),
        (
            "max_tries counts per request",
            "await self._upload.routers.repeat_request(lambda: self._send(router, task, data))",
            "await self._upload.routers.with_retries(lambda: self._send(router, task, data))",
            FAILED_DATA,
            ["test_max_tries_counts_per_request"],
        ),
        (
            "data whose router is lost is announced through another router",
            "            if len(self._upload.routers.pool.routers) == 1:\n                raise\n            return  # only this router knows the task; another one needs a new announcement\n",
            "            raise  # only this router knows the task; another one needs a new announcement\n",
            FAILED_DATA,
            ["test_router_lost_before_the_data_is_replaced_by_another"],
        ),
        (
            "a hung peer is found when the data is not answered",
            "            if isinstance(error, RequestTimeoutError):\n",
            "            if False:\n",
            SILENT_PEERS,
            ["test_peer_that_hangs_before_the_data_is_found_soon"],
        ),
        (
            "a task that keeps failing with status 500 is announced again",
            "if self._failures < 2:",
            "if self._failures < 99:",
            FAILED_DATA,
            ["test_task_that_keeps_failing_is_announced_again"],
        ),
        (
            "a task is spent",
            "        self._task = None\n        if await self._is_done():",
            "        if await self._is_done():",
            WRITING,
            ["test_task_is_used_once", "test_200_without_peer_ids_is_announced_and_sent_again"],
        ),
        (
            "the data goes to the router that gave the task",
            "self._task = (asked[-1], answer)",
            "self._task = (self._upload.routers.pool.routers[0], answer)",
            WRITING,
            ["test_task_goes_to_the_router_that_gave_it"],
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
            "if not self._seen_without_data and (upload.in_window or upload.routers.retry.max_tries > 1):",
            "if False:",
            WRITING,
            ["test_666_without_data_waits_for_who_may_be_sending"],
        ),
        (
            "a window deletes no announcement of a running put",
            "(upload.in_window or upload.routers.retry.max_tries > 1)",
            "upload.routers.retry.max_tries > 1",
            WINDOWS,
            ["test_window_deletes_no_announcement_of_a_running_put"],
        ),
        (
            "code 666 proves nothing while a peer is unavailable",
            'peers = await require_all_peers(upload.routers, f"finding the replicas of {self._label}", upload.name.bucket_id)',
            "peers = await upload.reader.peers()",
            WRITING,
            ["test_666_with_a_silent_peer_proves_no_empty_ball"],
        ),
        (
            "code 666 deletes nobody's other bytes",
            "        self._stored_on.clear()\n        await upload.check_no_conflict()\n",
            "        self._stored_on.clear()\n",
            WRITING,
            ["test_666_for_other_bytes_is_a_conflict_and_deletes_nothing"],
        ),
        (
            "code 666 deletes nothing while a peer is left out of the listing",
            "        await self._check_listing(len(peers.peer_ids))\n",
            "",
            WRITING,
            ["test_666_with_a_peer_left_out_of_the_listing_deletes_nothing"],
        ),
        (
            "announcements of the same bytes without data are deleted",
            "            await self._clear_unsent(unsent)\n",
            "            pass\n",
            UNSENT,
            ["test_same_bytes_that_were_only_announced_are_cleared"],
        ),
        (
            "announcements of the same bytes may be under way",
            "        await asyncio.sleep(self.grace_for(announced))\n",
            "",
            UNSENT,
            ["test_same_bytes_with_data_within_grace_are_kept"],
        ),
        (
            "data that came within the grace time is not deleted",
            "        await for_each(unsent, ChunkUpload.find_replicas, self.options.max_concurrency)\n        with",
            "        with",
            UNSENT,
            ["test_same_bytes_with_data_within_grace_are_kept"],
        ),
        (
            "announcements of the same bytes are not deleted while a peer does not answer",
            '            await require_all_peers(self.routers, f"putting {self.name}", self.name.bucket_id)\n            now',
            "            now",
            UNSENT,
            ["test_same_bytes_are_not_cleared_while_a_peer_does_not_answer"],
        ),
        (
            "no other layout's data is deleted with an announcement",
            "if chunk.is_missing and await chunk.has_no_data()]",
            "if chunk.is_missing]",
            UNSENT,
            ["test_same_bytes_stored_in_other_layout_are_not_cleared"],
        ),
        (
            "a further announcement is not deleted before its time",
            "if chunk.replicas_in(now) == chunk.replicas_in(announced) != Counter()]",
            "if True]",
            UNSENT,
            ["test_same_bytes_are_not_cleared_where_a_further_writer_comes"],
        ),
        (
            "rivals are looked for after other writers' announcements were deleted",
            "if again or self._cleared:",
            "if again:",
            UNSENT,
            ["test_rival_that_comes_after_the_clearing_is_a_conflict"],
        ),
        (
            "the user's tags don't win",
            "            **self.options.tags,\n            **self._chunk_tags.get(chunk.index, {}),\n            **self._own_tags,\n            **self.layout_tags(chunk),\n",
            "            **self._own_tags,\n            **self.layout_tags(chunk),\n            **self._chunk_tags.get(chunk.index, {}),\n            **self.options.tags,\n",
            OPERATIONS,
            ["test_tags_are_stored_and_the_clients_own_win"],
        ),
    ),
    *_mutants(
        "client/transfer/upload.py",
        (
            "an empty ball that is stored already gets its companion too",
            "            await self._put_companion()\n",
            "            await self._put_companion() if self._sent else None\n",
            EMPTY_STATES,
            ["test_half_of_a_pair_is_mended"],
        ),
        (
            "a put removes the companion of an earlier empty object",
            "            await self._delete_companion()\n",
            "            pass\n",
            EMPTY,
            ["test_stale_companion_is_removed[put]"],
        ),
        (
            "a stale companion fails no put",
            '        except MictlanXError as error:\n            log.info("Could not delete the stale companion',
            '        except NotFoundError as error:\n            log.info("Could not delete the stale companion',
            EMPTY,
            ["test_stale_companion_that_stays_fails_no_put"],
        ),
        (
            "a put whose source changed leaves nothing in the way of the next one",
            "conflict with the next put\n            await self._withdraw()\n            raise",
            "conflict with the next put\n            raise",
            FAILED_DATA,
            ["test_put_of_a_file_that_changed_leaves_nothing_in_the_way"],
        ),
        (
            "other bytes are a conflict",
            "                if await self._is_readable(version):\n                    raise self._conflict(version)",
            "                pass",
            WRITING,
            ["test_other_bytes_are_a_conflict_and_nothing_is_announced"],
        ),
        (
            "other bytes that were only announced may be under way",
            "for wait in (0.0, self.grace_for([chunk for version in others for chunk in version.ordered])):",
            "for wait in (0.0,):",
            SILENT_PEERS,
            ["test_announcement_with_data_within_grace_is_conflict"],
        ),
        (
            "other bytes are unreadable only when every peer answers",
            '            await require_all_peers(self.routers, f"putting {self.name}", self.name.bucket_id)\n            return False',
            "            return False",
            SILENT_PEERS,
            ["test_other_bytes_on_a_peer_that_comes_back_are_not_cleared"],
        ),
        (
            "other bytes are read again where a peer did not answer",
            '            await require_all_peers(self.routers, f"putting {self.name}", self.name.bucket_id)\n            return False',
            '            await self.routers.with_retries(\n                lambda: require_all_peers(self.routers, "putting", self.name.bucket_id)\n            )\n            return False',
            SILENT_PEERS,
            ["test_other_bytes_are_read_again_with_each_roll_call"],
        ),
        (
            "stored bytes are kept beside an announcement of others",
            "            if await self._is_readable(version):\n                return same\n",
            "            pass\n",
            SILENT_PEERS,
            ["test_same_bytes_beside_other_announcement_are_no_conflict"],
        ),
        (
            "a placed chunk that nobody lists is absent only when every peer answers",
            "        await require_all_peers(self.routers, action, self.name.bucket_id)\n        is_lost = lost_by_peer and not await list_chunks(self.routers, self.name)\n",
            "        is_lost = not await list_chunks(self.routers, self.name)\n",
            SILENT_PEERS,
            ["test_write_with_silent_peer_changes_nothing[put-1-1-peer_silent]"],
        ),
        (
            "a placement is stale only if its peer answers that it does not know the chunk",
            "is_lost = lost_by_peer and not await",
            "is_lost = not await",
            SILENT_PEERS,
            ["test_placement_is_not_stale_if_its_peer_did_not_answer"],
        ),
        (
            "a placement is stale only if no peer returns data",
            "if not is_lost or not await ChunkUpload(self, self._plan.chunks[0]).has_no_data():",
            "if not is_lost:",
            EMPTY,
            ["test_empty_ball_is_not_deleted_as_a_stale_placement"],
        ),
        (
            "the writer looks before it announces",
            "found = await self.routers.with_retries(self._find_announced)",
            "found = []",
            WRITING,
            ["test_other_bytes_are_a_conflict_and_nothing_is_announced", "test_same_bytes_are_not_sent_again"],
        ),
        (
            "the writer looks once more after its announcement",
            "        for version in versions:\n            if not self._is_same(version):\n                raise self._conflict(version, is_racing=self.options.replace)\n        if self._plan.size == 0:",
            "        if self._plan.size == 0:",
            WRITING,
            ["test_other_bytes_are_conflict_whatever_the_peers_clocks"],
        ),
        (
            "of two cuts of the same bytes the first wins",
            "return min(versions, key=lambda version: (version.begun_at, version.num_chunks)) in own",
            "return True",
            WRITING,
            ["test_two_writers_of_the_same_bytes_in_two_cuts_agree_on_one"],
        ),
        (
            "what was announced has to be listed",
            "if not own or sum(chunk.key == self.name.chunk(0) for chunk in listed) < first.announced:",
            "if False:",
            WRITING,
            ["test_nothing_is_sent_while_announcement_is_unlisted"],
        ),
        (
            "all replicas that were announced have to be listed",
            "if not own or sum(chunk.key == self.name.chunk(0) for chunk in listed) < first.announced:",
            "if not own:",
            SILENT_PEERS,
            ["test_put_whose_listing_lacks_an_own_replica_sends_nothing"],
        ),
        (
            "incomplete bytes are completed in the stored chunk layout",
            "        if version is None or self._has_own_layout(version):\n            return\n",
            "        return\n",
            WRITING,
            ["test_incomplete_upload_is_completed_in_the_cut_that_is_there"],
        ),
        (
            "stored already is what was read back",
            "            await self.complete(\n                self._plan.chunks, {chunk.key for version in found for chunk in version.chunks.values()}\n            )\n",
            "            pass\n",
            WRITING,
            ["test_leftover_announcement_is_not_taken_for_the_data"],
        ),
        (
            "a copy that a peer brought back is not taken for a stored one",
            "            await for_each(\n                self._plan.chunks, lambda chunk: ChunkUpload(self, chunk).put(), self.options.max_concurrency\n            )\n",
            "            await self.complete(self._plan.chunks, ())\n",
            GRID,
            ["test_cell[brought_back-put]"],
        ),
        (
            "stored bytes that were filtered are other bytes",
            "        if version.filters:\n            return False\n",
            "",
            READING,
            ["test_put_of_same_bytes_over_filtered_ball_is_conflict"],
        ),
    ),
    *_mutants(
        "client/transfer/single_chunk.py",
        (
            "another chunk under the key is a conflict",
            "        if not self.options.replace:\n            raise self._conflict(others)\n",
            "",
            CHUNKS,
            ["test_another_chunk_under_the_same_key_is_a_conflict"],
        ),
        (
            "the writer of one chunk looks once more after its announcement",
            "        self._refuse(listed)\n",
            "",
            SILENT_PEERS,
            ["test_rival_between_look_and_announcement_is_a_conflict[put_one_of_several]"],
        ),
        (
            "all replicas of one chunk that were announced have to be listed",
            "        if len(listed) < chunk_upload.announced:",
            "        if False:",
            SILENT_PEERS,
            ["test_put_whose_listing_lacks_an_own_replica_sends_nothing[put_one_of_several]"],
        ),
    ),
    *_mutants(
        "client/local_io/chunk_splitter.py",
        (
            "what is sent is what was hashed",
            "if digest.hexdigest() != chunk.checksum:",
            "if False:",
            SPLITTER,
            ["test_chunk_of_a_file_that_changed_is_not_sent"],
        ),
        (
            "the last piece of a changed chunk is not sent",
            "if offset + size == end and digest.hexdigest() != chunk.checksum:",
            "if False:",
            SPLITTER,
            ["test_large_chunk_of_a_changed_file_is_never_sent_completely"],
        ),
    ),
    *_mutants(
        "client/local_io/sources.py",
        (
            "a file is not closed while a thread reads it",
            "            if not self._users:\n                os.close(self._descriptor)\n",
            "            os.close(self._descriptor)\n",
            SPLITTER,
            ["test_descriptor_is_closed_after_its_last_use"],
        ),
    ),
    *_mutants(
        "client/concurrency.py",
        (
            "the bytes in flight are limited",
            "            while self._free < size:\n",
            "            while False:\n",
            LIMITS,
            ["test_byte_budget_limits_the_bytes_in_flight"],
        ),
        (
            "cancelled work gives its bytes back",
            "        finally:\n            self._free += size\n",
            "        except ZeroDivisionError:\n            self._free += size\n",
            LIMITS,
            ["test_byte_budget_cancelled_work_gives_its_bytes_back"],
        ),
    ),
    *_mutants(
        "client/transfer/delete.py",
        (
            "nothing is deleted while a peer does not answer",
            '            peers = await require_all_peers(\n                self._routers, f"{action}, which is incomplete," if begun else action, name.bucket_id\n            )\n',
            "            peers = None\n",
            SILENT_PEERS,
            ["test_write_with_silent_peer_changes_nothing[delete-3-2-peer_silent]"],
        ),
        (
            "a peer that falls silent during a delete is noticed",
            "                await require_all_peers(self._routers, action, name.bucket_id, peers)\n",
            "",
            SILENT_PEERS,
            ["test_delete_missed_by_a_peer_is_error_until_repeated"],
        ),
        (
            "a failed delete ends after all of its requests",
            "            except MictlanXError as error:\n                failures.append(error)\n",
            "",
            SILENT_PEERS,
            ["test_failed_delete_ends_after_all_of_its_requests"],
        ),
        (
            "a delete stops at the first shortfall",
            "stopped = stopped or bool(failures) or counts[key] < replicas[key]",
            "stopped = False",
            SILENT_PEERS,
            ["test_delete_stops_at_the_first_shortfall"],
        ),
        (
            "one chunk is deleted before the others",
            "        first, *rest = replicas\n        await delete(first)\n",
            "        rest = list(replicas)\n",
            SILENT_PEERS,
            ["test_delete_stops_at_the_first_shortfall"],
        ),
        (
            "chunks that are not listed are deleted too: they may be placed",
            "replicas.update({chunk: 0 for chunk in unlisted if chunk in placed})",
            "pass",
            READING,
            ["test_delete_clears_placement_of_unlisted_chunks"],
        ),
        (
            "nothing is deleted while no peer lists what one of them answers for",
            "if size > 0:  # listings omit empty chunks",
            "if False:  # listings omit empty chunks",
            SILENT_PEERS,
            ["test_delete_of_unlisted_stored_ball_changes_nothing"],
        ),
        (
            "a delete that gets no answer is followed by a roll-call",
            "final=(NotFoundError, RequestTimeoutError),  # the roll-call before the next try finds a hung peer",
            "final=(NotFoundError,),  # the roll-call before the next try finds a hung peer",
            SILENT_PEERS,
            ["test_peer_that_hangs_during_a_delete_is_found_after_one_try[delete]"],
        ),
        (
            "a peer that hangs stops the delete of a bucket",
            "            await require_all_peers(self._routers, action, bucket_id)  # a hung peer would delay every delete\n",
            "",
            SILENT_PEERS,
            ["test_peer_that_hangs_during_a_delete_is_found_after_one_try[delete_bucket]"],
        ),
        (
            "countless chunks are not believed",
            "            indexes = {\n                index\n                for version in group_versions(listed)\n                for index in range(min(version.num_chunks, max(version.chunks) + 1 + UNLISTED))\n            }\n",
            "            indexes = {index for version in group_versions(listed) for index in range(min(version.num_chunks, 100_000))}\n",
            SILENT_PEERS,
            ["test_ball_that_claims_countless_chunks_is_deleted"],
        ),
        (
            "what a returning peer brings back is deleted by the ball's id",
            "                    deleted += await self._delete_ball(name)\n",
            "",
            READING,
            ["test_fewer_deletes_than_replicas_listed_is_looked_into"],
        ),
        (
            "a delete by ball id deletes no other object",
            "        if others:\n            raise ValidationError(",
            "        if False:\n            raise ValidationError(",
            OWN_KEYS,
            [
                "test_delete_of_an_unplaced_key_names_the_others[delete]",
                "test_stale_copy_of_a_ball_is_not_deleted_with_keys",
            ],
        ),
        (
            "a delete by ball id deletes no empty ball beside a key",
            "                others.add(name.ball_id)\n",
            "                pass\n",
            OWN_KEYS,
            ["test_delete_of_an_unplaced_key_keeps_the_empty_ball[delete-True]"],
        ),
        (
            "the delete of a ball leaves objects with keys of their own",
            "if (row.key == key if key else not row.own_key)",
            'if key in ("", row.key)',
            OWN_KEYS,
            ["test_ball_and_keys_with_the_same_ball_id_stay_apart[router]"],
        ),
        (
            "a bucket is listed again until it is empty",
            "if not listed or stuck or round_number == ROUNDS:",
            "if not listed or stuck or round_number == 1:",
            READING,
            ["test_delete_bucket_lists_again_until_nothing_is_left"],
        ),
        (
            "what came in meanwhile is reported",
            "failed=len(left),",
            "failed=0,",
            MEETINGS,
            ["test_bucket_written_to_all_the_time_is_reported_not_empty"],
        ),
        (
            "a companion is deleted before its ball",
            "sorted(chosen, key=is_companion, reverse=True)",
            "chosen",
            EMPTY,
            ["test_companion_is_deleted_before_its_ball"],
        ),
        (
            "the empty chunk beside a companion is deleted",
            "if replicas.keys() <= {companion_key(name.ball_id)} - {key}:",
            "if not replicas:",
            EMPTY,
            ["test_requests_for_objects_beside_companions"],
        ),
        (
            "the empty chunk beside a companion is confirmed to be gone",
            "ask_placement = short or not replicas.total() - replicas[companion]",
            "ask_placement = short or not replicas.total()",
            EMPTY,
            ["test_delete_that_changed_nothing_is_noticed"],
        ),
        (
            "a delete by key takes the companion too",
            " or (key == name.chunk(0) and is_companion(row))",
            "",
            EMPTY,
            ["test_delete_by_chunk_key_deletes_the_companion_too"],
        ),
        (
            "the delete of a companion never takes its ball",
            "if key == companion_key(name.ball_id):\n            return False",
            "if False:\n            return False",
            EMPTY,
            ["test_delete_of_a_companion_alone_keeps_the_empty_ball"],
        ),
        (
            "replicas of a companion are not counted",
            "deleted += counts.total() - counts[companion]",
            "deleted += counts.total()",
            EMPTY,
            ["test_replace_and_delete_treat_the_pair_as_one"],
        ),
        (
            "the placement of an empty chunk is deleted with its bucket",
            "data = {*companions.values(), *(row.key for row in rows)} - companions.keys()",
            "data = {row.key for row in rows} - companions.keys()",
            LISTED,
            ["test_empty_chunk_is_deleted_before_its_companion"],
        ),
        (
            "a listed companion is deleted after its empty chunk",
            "keys = [*sorted(data), *companions]",
            "keys = [*companions, *sorted(data)]",
            LISTED,
            ["test_empty_chunk_is_deleted_before_its_companion"],
        ),
        (
            "the replicas of an empty chunk are compared with those of its companion",
            "        missed += [empty for key, empty in companions.items() if counts[empty] < counts[key]]\n",
            "",
            LISTED,
            ["test_missed_replica_of_an_empty_chunk_is_deleted"],
        ),
        (
            "a delete of a listed chunk that counts no replica is followed by a roll-call",
            "        if missed:  # a silent peer keeps its replica, and its placement is forgotten\n",
            "        if False:\n",
            LISTED,
            ["test_peer_silent_between_deletes_stops_them"],
        ),
        (
            "a silent peer stops the delete of a bucket",
            "            if unavailable:\n                return\n",
            "",
            LISTED,
            ["test_peer_silent_between_deletes_stops_them[by_bucket]"],
        ),
        (
            "listed replicas without placement are deleted",
            "        if not missed and len(counts) == len(keys):\n",
            "        if True:\n",
            LISTED,
            ["test_replica_without_placement_is_deleted_by_ball"],
        ),
        (
            "a prefix leaves other objects with the same ball id",
            "await (self._delete(name, keys) if also is None else self.remove_object(name, also))",
            "await self._delete(name, keys)",
            LISTED,
            ["test_prefix_leaves_other_keys_of_the_ball_id[peer]"],
        ),
    ),
    *_mutants(
        "client/empty_objects.py",
        (
            "a companion is identified by its tag",
            "return COMPANION_TAG in chunk.tags and chunk.key",
            "return chunk.key",
            EMPTY_ROWS,
            ["test_companion_has_the_tag_and_the_key"],
        ),
        (
            "a copied tag hides no ball",
            "return COMPANION_TAG in chunk.tags and chunk.key == companion_key(chunk.ball_id)",
            "return COMPANION_TAG in chunk.tags",
            EMPTY,
            ["test_only_tag_with_key_makes_a_companion"],
        ),
        (
            "a companion does not count beside complete other bytes",
            " if chunk.ball_id not in stale)",
            ")",
            EMPTY_ROWS,
            ["test_stale_companions_are_left_out"],
        ),
        (
            "a companion counts beside an incomplete ball",
            "if not own_key and found and found[0].is_complete}",
            "if not own_key and found}",
            EMPTY,
            ["test_companion_counts_beside_an_incomplete_ball"],
        ),
        (
            "readers that know no companions find no place for one",
            '{"num_chunks": "0",',
            '{"num_chunks": "1",',
            EMPTY_ROWS,
            ["test_companion_belongs_to_no_version"],
        ),
    ),
    *_mutants(
        "client/transfer/chunk_reader.py",
        (
            "an empty object is read without data",
            "if chunk.size == 0 and chunk.checksum == EMPTY_CHECKSUM:",
            "if False:",
            EMPTY,
            ["test_companion_without_its_empty_ball_is_the_object"],
        ),
    ),
    *_mutants(
        "hooks/bucket_inactivity.py",
        (
            "empty objects count",
            "group_by_object(with_empty_objects(listing.balls))",
            "group_by_object(listing.balls)",
            "tests/integration/sensors/test_bucket_inactivity.py",
            ["test_empty_objects_count_and_restart_the_period"],
        ),
    ),
    *_mutants(
        "client/transfer/listing.py",
        (
            "a placement is stale only if several looks say so",
            "PEERS_PER_LOOK = 3",
            "PEERS_PER_LOOK = 1",
            EMPTY,
            ["test_empty_ball_that_one_peer_lost_is_a_conflict"],
        ),
        (
            "a roll-call that names nobody asks for the bucket of the call",
            "for bucket in (PEER_CHECK_BUCKET, bucket_id):",
            "for bucket in (PEER_CHECK_BUCKET,):",
            SILENT_PEERS,
            ["test_roll_call_that_names_nobody_asks_for_the_bucket"],
        ),
        (
            "a hung peer is not waited for as long as a request may take",
            "first = routers.with_timeout(PEER_CHECK_TIMEOUT) if quick else routers",
            "first = routers",
            SILENT_PEERS,
            ["test_hung_peer_stops_a_bulk_soon"],
        ),
        (
            "absent is not believed while a peer does not answer",
            "        missing = await silent_peers(quick, bucket_id, found)",
            "        missing = []",
            READING,
            ["test_missing_while_a_peer_is_away_is_not_known", "test_ball_on_a_peer_that_is_away_is_not_absent"],
        ),
        (
            "a hung peer is found by the roll-call's own timeout",
            "quick = routers.with_timeout(PEER_CHECK_TIMEOUT)",
            "quick = routers",
            SILENT_PEERS,
            ["test_hung_peer_is_found_within_the_roll_calls_timeout[delete]"],
        ),
        (
            "a bucket's listing has to name every peer",
            "return listing, sorted(set(found.peer_ids) - set(listing.peers_ids))",
            "return listing, []",
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
            "if placed and first.size == 0:  # listings omit empty balls",
            "if placed and first.size == -1:  # listings omit empty balls",
            EMPTY,
            ["test_empty_ball_of_another_writer_is_found_by_its_key"],
        ),
        (
            "a companion is not believed while other bytes may be unavailable",
            "    if not placed and (found :=",
            "    if (found :=",
            EMPTY,
            ["test_companion_hides_no_lost_bytes"],
        ),
        (
            "a companion alone is the empty object",
            "    if not placed and (found :=",
            "    if False and (found :=",
            EMPTY,
            ["test_companion_without_its_empty_ball_is_the_object"],
        ),
        (
            "a companion is no chunk of its ball",
            "and (companions or not is_companion(row))]",
            "]",
            EMPTY,
            ["test_placement_without_data_beside_companion_does_not_block_the_key"],
        ),
        (
            "a ball of unrecorded length is read only if every peer listed it",
            "    if all(version.is_recorded for version in versions if version.is_complete):\n",
            "    if versions:\n",
            LENGTHS,
            ["test_ball_is_not_read_short[no_tags-2]", "test_listing_that_lacks_a_peer_once_is_not_believed[no_tags]"],
        ),
        (
            "chunks that only the complete listing shows are read",
            "group_versions([*known, *more])",
            "group_versions(known)",
            LENGTHS,
            ["test_listing_that_lacks_a_peer_once_is_not_believed[no_tags]"],
        ),
        (
            "an empty first chunk of unrecorded length is not the complete ball",
            "return await _confirm_lengths(routers, name, [*found, *listed])",
            "return [*found, *listed]",
            LENGTHS,
            ["test_empty_first_chunk_is_not_the_complete_ball"],
        ),
        (
            "objects with keys of their own are no chunks of a ball",
            "if not row.own_key and (companions or",
            "if (companions or",
            OWN_KEYS,
            ["test_ball_and_keys_with_the_same_ball_id_stay_apart"],
        ),
        (
            "a key is not taken for the ball id of another object",
            "        if found := await find_by_chunk_key(routers, name.bucket_id, key, peers):\n            return found\n        if not own:",
            "        if not own:",
            OWN_KEYS,
            ["test_own_key_wins_over_the_ball_id_of_another"],
        ),
        (
            "a ball id with several keys is an error",
            "if len(own) > 1:",
            "if False:",
            OWN_KEYS,
            ["test_each_key_of_a_ball_id_is_an_object"],
        ),
        (
            "an object without placement is looked for at every peer",
            "        if not await _is_on_any_peer(routers, bucket_id, key, peers):\n            return []\n",
            "        return []\n",
            OWN_KEYS,
            ["test_object_is_read_by_its_key_and_its_ball_id[directly_to_a_peer]"],
        ),
        (
            "the chunk of another ball is not taken for an empty ball, or for a placed one",
            "placed = first.ball_id == name.ball_id",
            "placed = True",
            OWN_KEYS,
            ["test_chunk_of_another_ball_is_not_replaced"],
        ),
    ),
    *_mutants(
        "client/models.py",
        (
            "an index with leading zeros is a key of its own",
            '_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")',
            '_INDEX = re.compile(r"[0-9]{1,9}")',
            OWN_KEYS,
            ["test_object_is_read_by_its_key_and_its_ball_id[a_frame_with_leading_zeros]"],
        ),
    ),
    *_mutants(
        "client/transfer/upload.py",
        (
            "the chunk of another ball is not replaced",
            "if self.options.replace and all(version.ball_id == self.name.ball_id for version in others):",
            "if self.options.replace:",
            OWN_KEYS,
            ["test_chunk_of_another_ball_is_not_replaced"],
        ),
    ),
    *_mutants(
        "client/transfer/chunk_reader.py",
        (
            "a copy is called lost only if every peer answered",
            "            unknown |= set(await silent_peers(self._routers.with_timeout(PEER_CHECK_TIMEOUT), bucket_id, peers))\n",
            "            pass\n",
            SILENT_PEERS,
            ["test_copies_are_called_lost_only_if_every_peer_answered"],
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
            "groups[chunk.full_checksum, num_chunks].append((chunk.updated_at, index, chunk))",
            "groups[None, num_chunks].append((chunk.updated_at, index, chunk))",
            VERSIONS,
            ["test_versions_of_other_bytes_are_never_mixed"],
        ),
        (
            "the newest complete version comes first",
            "return sorted(versions, key=lambda v: (v.is_complete, v.updated_at, v.begun_at), reverse=True)",
            "return sorted(versions, key=lambda v: (v.is_complete, v.updated_at, v.begun_at))",
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
        "client/transfer/router_pool.py",
        (
            "other routers are preferred to one whose request failed",
            "if isinstance(error, _MAY_BE_THE_ROUTERS) and not isinstance(error, UnavailableError):",
            "if isinstance(error, NOT_CONNECTED):",
            OUTAGES,
            ["test_a_router_that_fails_is_left_alone"],
        ),
        (
            "a request waits while no router can be reached",
            "if not self._patience:",
            "if True:",
            OUTAGES,
            ["test_one_try_survives_a_restart", "test_a_bulk_fails_after_one_wait"],
        ),
        (
            "a wait in vain is not repeated",
            "if now < self._gave_up + self._patience:",
            "if False:",
            OUTAGES,
            ["test_a_bulk_fails_after_one_wait"],
        ),
        (
            "an answer ends the time in which nothing waits",
            "            self._gave_up = -math.inf\n\n    async def wait_for_router(",
            "\n    async def wait_for_router(",
            OUTAGES,
            ["test_a_later_outage_is_waited_for_again"],
        ),
        (
            "the error after the wait uses up no tries",
            "error.exhausted = True",
            "error.exhausted = False",
            OUTAGES,
            ["test_without_patience_the_error_comes_at_once"],
        ),
        (
            "only one request begins the wait",
            "if not self._waiting or self._wait_ended > self._wait_began:",
            "if True:",
            OUTAGES,
            ["test_many_requests_share_one_wait"],
        ),
        (
            "only one request probes the routers",
            "if self._wait_ended < now:",
            "if True:",
            OUTAGES,
            ["test_many_requests_share_one_wait"],
        ),
        (
            "another router is tried before the wait",
            "if len(tried) < len(self.pool.routers):",
            "if False:",
            OUTAGES,
            ["test_nothing_waits_while_another_router_answers"],
        ),
        (
            "a refused certificate is not waited for",
            " and not isinstance(error, CertificateError)",
            "",
            OUTAGES,
            ["test_a_refused_certificate_is_not_waited_for"],
        ),
        (
            "a request waits for the only router that knows its task",
            "if len(self.pool.routers) == 1:",
            "if False:",
            OUTAGES,
            ["test_a_task_waits_for_its_router"],
        ),
        (
            "the error at the deadline names the wait's cause",
            "remember_failure(error)\n                first",
            "first",
            OUTAGES,
            ["test_deadline_ends_the_wait"],
        ),
    ),
    *_mutants(
        "sensors/mictlanx.py",
        (
            "a poke asks once",
            "open_client(connect_patience=0)",
            "open_client()",
            OUTAGES_IN_AIRFLOW,
            ["test_poke_asks_once"],
        ),
    ),
    *_mutants(
        "triggers/conditions.py",
        (
            "a poke of a trigger asks once",
            "open_client(connect_patience=0)",
            "open_client()",
            OUTAGES_IN_AIRFLOW,
            ["test_poke_of_a_trigger_asks_once"],
        ),
    ),
    *_mutants(
        "client/transfer/chunk_reader.py",
        (
            "stored already is what a peer gives, not the router's cache",
            "await self._routers.with_retries(lambda: self._read_once(chunk, 0, NullSink(), True, peer_id), _NOT_STORED)",
            "await self._routers.with_retries(lambda: self._read_once(chunk, 0, NullSink(), False, peer_id), _NOT_STORED)",
            GRID,
            ["test_cell[cached_only-put]", "test_cell[cached_only-bulk]"],
        ),
        (
            "every peer is asked",
            "for peer in peers.available:",
            "for peer in peers.available[:0]:",
            READING,
            ["test_replica_only_one_peer_has_is_found"],
        ),
        (
            "size and SHA-256 are compared",
            'await writer.finish(f"peer {peer_id}" if peer_id else "the router", chunk.size, chunk.checksum)',
            "await writer.finish(peer_id, writer.size, writer.checksum)",
            READING,
            ["test_wrong_in_every_replica_is_an_integrity_error", "test_one_replica_that_is_wrong_is_passed_over"],
        ),
    ),
    *_mutants(
        "client/transfer/download.py",
        (
            "versions that a bucket's listing hides are looked up",
            "        if self._is_partial:\n            self._versions, self._at, self._is_partial = await self._find(), 0, False\n            return\n",
            "",
            LISTED,
            ["test_version_hidden_by_an_announcement_is_read", "test_storage_check_reads_past_the_listing"],
        ),
        (
            "a listed version with another checksum is not read",
            "can_read_directly(listed) and checksum in (None, listed.checksum)",
            "can_read_directly(listed)",
            LISTED,
            ["test_version_of_another_checksum_is_looked_up"],
        ),
        (
            "a listed ball without recorded length is looked up",
            "return version.is_complete and version.is_recorded and not version.filters",
            "return version.is_complete and not version.filters",
            LISTED,
            ["test_listed_ball_without_length_is_looked_up"],
        ),
        (
            "the next older version is read",
            "        if not self.is_last:\n            self._at += 1\n            return\n",
            "",
            READING,
            ["test_newer_announcement_does_not_hide_older_ball"],
        ),
        (
            "a ball that was replaced meanwhile is looked up again",
            "self._versions, self._at = now, 0",
            "raise error",
            MEETINGS,
            ["test_reader_during_a_replace_sees_old_or_new_or_nothing"],
        ),
        (
            "the complete ball is compared",
            "if version.checksum is not None and checksum != version.checksum:",
            "if False:",
            READING,
            ["test_chunks_that_are_right_and_a_whole_that_is_not"],
        ),
        (
            "another file is not changed",
            "if not replace:",
            "if False:",
            OPERATIONS,
            ["test_another_file_is_left_alone_unless_it_is_to_be_replaced"],
        ),
        (
            "no stored byte of a filtered ball is handed out",
            "if not plain:",
            "if False:",
            READING,
            ["test_filtered_ball_is_refused_without_stored_bytes"],
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
        "client/object_ids.py",
        (
            "a key that is not a safe id is mapped",
            "    if is_safe_id(key):\n        return key\n",
            "    return key\n",
            WRITING,
            ["test_unsafe_key_is_stored_by_sha256_and_read_by_name"],
        ),
        (
            "buckets of records are changed only on request",
            "if bucket_id.startswith(RESERVED_BUCKETS) and not allow_reserved_bucket:",
            "if False:",
            RESERVED,
            [
                "test_reserved_bucket_is_refused_before_the_first_request",
                "test_copy_into_a_reserved_bucket_is_refused",
                "test_bulk_into_a_reserved_bucket_is_refused",
            ],
        ),
        (
            "a str does not allow a reserved bucket",
            '    check_bool("allow_reserved_bucket", allow_reserved_bucket)\n',
            "",
            RESERVED,
            ["test_flag_is_a_keyword_at_the_end_and_a_bool"],
        ),
    ),
    *_mutants(
        "client/async_client.py",
        (
            "an error names the key as it was written",
            r'if not all(re.search(rf"{re.escape(name)}(?!_\d)", message) for name in written):',
            "if False:",
            NAMED,
            ["test_refusal_names_bucket_key_and_router"],
        ),
        (
            "a ball id is shortened",
            'message = message.replace(name.ball_id, f"{name.ball_id[:12]}…")',
            "message = message",
            NAMED,
            ["test_refusal_names_bucket_key_and_router"],
        ),
        (
            "an error names the routers",
            'message = f"{message} [{format_first(named, most=ROUTERS_SHOWN)}]"',
            "pass",
            NAMED,
            ["test_absent_object_is_named_with_the_router", "test_several_routers_are_named_and_many_are_counted"],
        ),
    ),
    *_mutants(
        "hooks/errors.py",
        (
            "an error names the connection",
            'return message if named in message else f"{message} ({named})"',
            "return message",
            NAMED_IN_AIRFLOW,
            ["test_error_of_the_hook", "test_error_of_an_operator", "test_error_of_a_trigger"],
        ),
    ),
    *_mutants(
        "hooks/connection.py",
        (
            "a port without a protocol does not mean https",
            "        if router.port not in (None, _HTTPS_PORT):",
            "        if False:",
            CONNECTION,
            ["test_port_without_protocol_is_an_error_with_both_ways_out"],
        ),
        (
            "a connection is of our type",
            "str(conn_type).lower() not in _CONN_TYPES:",
            "False:",
            CONNECTION,
            ["test_connection_of_another_type_is_diagnosed"],
        ),
    ),
    *_mutants(
        "hooks/mictlanx.py",
        (
            "a prefix is not copied to a bucket of records",
            '        check_bucket_may_change(dest_bucket_id, options["allow_reserved_bucket"], "dest_bucket_id")\n',
            "",
            RESERVED_IN_AIRFLOW,
            ["test_operator_refuses_a_reserved_bucket"],
        ),
        (
            "check_fn judges the version that is readable",
            "judged and [*map(_content, found)] == [*map(_content, judged)]",
            "judged",
            MANY_OBJECTS,
            ["test_check_fn_judges_the_version_that_is_readable"],
        ),
    ),
    *_mutants(
        "batches/local_paths.py",
        (
            "balls that would be one file are not read",
            "for same in [same for same in files.values() if len(same) > 1]:",
            "for same in []:",
            PLACES,
            ["test_keys_that_clash_are_refused_and_no_others", "test_one_key_in_two_buckets_is_one_file"],
        ),
        (
            "a file that would be a folder is not read",
            "if (file := alone.get(_fold_case(folder, case_insensitive))) is not None:",
            "if (file := None) is not None:",
            PLACES,
            ["test_keys_that_clash_are_refused_and_no_others"],
        ),
    ),
    *_mutants(
        "batches/delete.py",
        (
            "a silent peer stops the delete of a prefix",
            "        if listed and unavailable:\n            return False",
            "        if False:\n            return False",
            LISTED,
            ["test_peer_silent_between_deletes_stops_them[by_prefix]"],
        ),
    ),
    *_mutants(
        "bulks/sync.py",
        (
            "after a failed transfer, nothing is deleted",
            "if self.options.delete_extra and not outcome.failures:",
            "if self.options.delete_extra:",
            SYNC,
            ["test_failed_transfer_prevents_the_deletion"],
        ),
        (
            "an empty source deletes nothing",
            "if self.options.delete_extra and not names and not self.options.allow_empty:",
            "if False:",
            SYNC,
            ["test_empty_source_deletes_nothing_unless_allowed"],
        ),
        (
            "what changes during a sync is not deleted",
            "if name in found and found[name].mark == entry.mark}",
            "if name in found}",
            SYNC,
            ["test_what_changes_during_the_sync_is_kept"],
        ),
        (
            "an incomplete object of the source keeps its copy",
            "keys = await run_in_thread(lambda: set(map(listed_key, listing.balls)))",
            "return await self.list_destination(options)",
            SYNC,
            ["test_incomplete_object_of_the_source_keeps_its_copy"],
        ),
        (
            "an equal object is read before it counts as stored",
            "if not options.check_storage:",
            "if True:",
            SYNC,
            ["test_announced_object_without_data_is_sent_again"],
        ),
    ),
    *_mutants(
        "batches/export.py",
        (
            "a file has its name when it is complete",
            'if (stored := self.fs.info(written).get("size")) != size:',
            "if (stored := size) != size:",
            EXPORT,
            ["test_half_a_file_never_gets_its_name"],
        ),
    ),
    *_mutants(
        "client/transfer/copy.py",
        (
            "a copy whose listed original can't be read looks up its versions",
            "            with contextlib.suppress(IntegrityError, GetChunkError):\n                return await self._copy_newest(name, to, [listed], retry_missing, known)\n",
            "            return await self._copy_newest(name, to, [listed], retry_missing, known)\n",
            LISTED,
            ["test_copies_read_the_listed_versions[True]"],
        ),
    ),
    *_mutants(
        "client/async_client.py",
        (
            "a newer announcement in a bucket's listing may hide an older version",
            "            newest = len(versions) == 1 or (version.size > 0 and version.updated_at == latest)\n",
            "            newest = True\n",
            LISTED,
            ["test_companion_beside_a_hidden_ball_is_not_empty"],
        ),
        (
            "another ball is not taken for the listed one",
            "if (listed.bucket_id, listed.key) != (name.bucket_id, name.key):",
            "if False:",
            LISTED,
            ["test_another_ball_than_the_listed_is_an_error"],
        ),
    ),
    *_mutants(
        "batches/download.py",
        (
            "of a ball and an object with the same key, the ball is read",
            "ball if names[ball.key] == 1 else None",
            "ball",
            LISTED,
            ["test_ball_and_own_key_of_one_name_are_read_as_the_ball"],
        ),
        (
            "a key that can't be a file fails",
            "            raise file.problem\n",
            "            return False\n",
            FOLDER,
            ["test_key_that_can_not_be_a_file_fails_alone"],
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
            "a failure that will be retried does not count yet",
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
            "if _attempt_order(report) >= since and report.attempt in started]",
            "if report.attempt in started]",
            STATUS,
            ["test_loss_takes_back_what_was_complete", "test_complete_means_that_every_shard_has_a_good_end"],
        ),
        (
            "an attempt without a start completes nothing",
            " and report.attempt in started]",
            "]",
            STATUS,
            ["test_good_end_without_a_start_completes_nothing"],
        ),
        (
            "a lost ball needs a later acknowledgement",
            "        for index in lost[order]:\n            done.pop(index, None)\n",
            "",
            STATUS,
            ["test_only_later_reports_acknowledge_a_lost_ball"],
        ),
        (
            "a loss whose bytes are lost may be any ball",
            "        if len(lost[order]) < reported_losses[order]:",
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
            "complete_versions = [version for version in group_versions(chunks) if version.is_complete]",
            "complete_versions = group_versions(chunks)",
            STATUS,
            ["test_record_that_was_cut_short_does_not_count"],
        ),
        (
            "records of another bulk are refused",
            "if is_record(chunk) and chunk.tags[BULK_TAG] != bulk_id:",
            "if False:",
            STATUS,
            ["test_records_of_another_bulk_are_refused"],
        ),
        (
            "a ball without a record's tags is not a record",
            "return _record_type(chunk.ball_id) is not None and BULK_TAG in chunk.tags and RECORD_TAG in chunk.tags",
            "return _record_type(chunk.ball_id) is not None",
            STATUS,
            ["test_ball_without_a_records_tags_is_ignored_and_named"],
        ),
        (
            "so are the texts of a closed bulk's result",
            "problems: list[CleanText]",
            "problems: list[str]",
            SPELLINGS,
            ["test_texts_of_a_record_are_printable_and_keys_are_exact"],
        ),
        (
            "a closed bulk was complete or has failed",
            'state: Literal["complete", "failed"]',
            "state: str",
            STATUS,
            ["test_closed_bulk_needs_a_result"],
        ),
    ),
    *_mutants(
        "bulks/record_store.py",
        (
            "what is not a record is not deleted with the records",
            "        if foreign := sorted({chunk.ball_id for chunk in listing.balls if not is_record(chunk)}):",
            "        if foreign := []:",
            BULK,
            ["test_foreign_ball_among_the_records_stops_nothing"],
        ),
        (
            "many records are parsed in a thread",
            "parse() if len(listing.balls) <= INLINE_ROWS else await run_in_thread(parse)",
            "parse()",
            EVENTS,
            ["test_many_records_are_parsed_in_a_thread"],
        ),
    ),
    *_mutants(
        "bulks/options.py",
        (
            "a bulk's bucket is checked before its first record",
            "check_bucket_may_change(self.bucket_id, self.allow_reserved_bucket)",
            "pass",
            RESERVED_IN_AIRFLOW,
            ["test_bulk_with_a_wrong_bucket_does_not_spend_its_id", "test_operator_refuses_a_reserved_bucket"],
        ),
    ),
    *_mutants(
        "bulks/planner.py",
        (
            "every ball's bucket is checked",
            "check_bucket_may_change(bucket_id, self.spec.allow_reserved_bucket)",
            "pass",
            BULK,
            ["test_ball_of_a_list_in_the_bucket_of_another_bulk"],
        ),
        (
            "lost balls are recorded before one of them is announced",
            "            await self.record_lost()\n",
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
            "if now.checksum != ball.checksum:",
            "if False:",
            TAKING_OVER,
            ["test_file_that_changed_in_place"],
        ),
        (
            "only sources that are as they were need not be compared",
            "if mark and report.sources == mark:",
            "if True:",
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
            "self.ledger.learn(others.keys() - await self._lost(plan, others, mine))",
            "self.ledger.learn(others.keys())",
            TAKING_OVER,
            ["test_what_another_attempt_stored_may_be_lost_again"],
        ),
    ),
    *_mutants(
        "bulks/plan.py",
        (
            "a plan is what its record says",
            "if hashlib.sha256(content).hexdigest() != record.digest:",
            "if False:",
            PLAN,
            ["test_plan_is_canonical_and_read_back"],
        ),
    ),
    *_mutants(
        "bulks/attempt.py",
        (
            "another spec is refused",
            "            if start.spec != self._spec_text:\n                raise BulkConflictError(",
            "            if False:\n                raise BulkConflictError(",
            BULK,
            ["test_other_owner_or_spec"],
        ),
        (
            "another owner is refused",
            "            if start.shard == self.shard and start.owner != self.owner:",
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
            "await self._record_part(allow_fewer_replicas=False)",
            "await self._record_part()",
            TAKING_OVER,
            ["test_loss_has_to_be_recorded_on_as_many_peers_as_a_start"],
        ),
        (
            "with an earlier attempt's plan a source is hashed before its ball is found stored",
            "known = self._planner.is_new and ball.size <= ball.chunk_size",
            "known = ball.size <= ball.chunk_size",
            TAKING_OVER,
            ["test_file_that_changed_before_it_was_recorded"],
        ),
    ),
    *_mutants(
        "bulks/inventory.py",
        (
            "an acknowledged ball that is not listed as planned is lost",
            "    return acknowledged.keys() - announced.keys()\n",
            "    return set()\n",
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
            "an empty ball that is looked up has a companion",
            "        if ball.size == 0:\n",
            "        if False:\n",
            TAKING_OVER,
            ["test_empty_ball_without_its_companion_is_put_again[0]"],
        ),
        (
            "empty balls are found in a listing",
            "group_versions(with_empty_objects(listed))",
            "group_versions(listed)",
            TAKING_OVER,
            ["test_empty_balls"],
        ),
        (
            "a ball is listed with the plan's checksum",
            "return bool(ball.checksum) and (found.size, plain_checksum(found)) == (ball.size, ball.checksum)",
            "return bool(ball.checksum)",
            TAKING_OVER,
            ["test_other_bytes_under_a_key_since_then", "test_chunk_that_is_lost"],
        ),
        (
            "the listing of a bucket far larger than the bulk is not read to its end",
            "bucket_id, timeout, max_size=listing_limit(len(wanted))",
            "bucket_id, timeout, max_size=None",
            TAKING_OVER,
            ["test_bucket_far_larger_than_the_bulk"],
        ),
        (
            "only where every peer answers is a ball lost that cannot be found",
            "        await store.check_peers(str(error))\n",
            "",
            TAKING_OVER,
            ["test_peer_that_does_not_answer"],
        ),
    ),
    *_mutants(
        "bulks/ledger.py",
        (
            "a changed source is a failure, whatever records acknowledge",
            "if index not in self._changed:",
            "if True:",
            TAKING_OVER,
            ["test_file_that_changed_in_place"],
        ),
    ),
    *_mutants(
        "bulks/sources.py",
        (
            "a file's mark has the time that can't be set back",
            "return _mark(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)",
            "return _mark(status.st_size, status.st_mtime_ns, status.st_ino)",
            TAKING_OVER,
            ["test_file_that_changed_in_place"],
        ),
        (
            "times of other stores do not identify their content",
            "content = [str(info[name]) for name in sorted(info) if name.lower() in CONTENT_FIELDS and info[name] is not None]",
            "content = [str(info[name]) for name in sorted(info) if info[name] is not None]",
            TAKING_OVER,
            ["test_file_of_another_store_whose_time_is_set_back"],
        ),
    ),
    *_mutants(
        "client/protocol/router.py",
        (
            "a listing that is too long is not asked for again",
            "                error.transient = False  # a retry does",
            "                pass  # a retry does",
            TAKING_OVER,
            ["test_bucket_far_larger_than_the_bulk"],
        ),
    ),
    *_mutants(
        "client/redaction.py",
        (
            "escapes are undone before a secret is searched for",
            "level = level.decoded()",
            "level = None",
            SPELLINGS,
            ["test_every_pair_of_spellings_is_redacted"],
        ),
        (
            "escapes inside escapes are undone",
            "_MAX_LAYERS = 8",
            "_MAX_LAYERS = 2",
            SPELLINGS,
            ["test_every_pair_of_spellings_is_redacted"],
        ),
        (
            "a secret has three forms in base64, by where its bytes begin",
            "for before in range(3):",
            "for before in range(1):",
            SPELLINGS,
            ["test_every_pair_of_spellings_is_redacted"],
        ),
        (
            "the neighbours of a secret in base64 have some of its bits",
            "if spelling.is_base64:",
            "if False:",
            SPELLINGS,
            ["test_every_pair_of_spellings_is_redacted"],
        ),
        (
            "a secret is searched for in hexadecimal digits",
            " | {form.encode().hex() for form in forms}",
            "",
            SPELLINGS,
            ["test_every_pair_of_spellings_is_redacted"],
        ),
        (
            "a secret that has escapes itself is searched for without them",
            "            plain.add(level.text)",
            "            pass",
            SPELLINGS,
            ["test_every_pair_of_spellings_is_redacted"],
        ),
        (
            "upper and lower case are not told apart",
            'return _INVISIBLE.sub("", text).lower()',
            'return _INVISIBLE.sub("", text)',
            SPELLINGS,
            ["test_every_pair_of_spellings_is_redacted"],
        ),
        (
            "a short secret leaves messages alone",
            "if len(secret.strip()) < MIN_SECRET_LENGTH:",
            "if not secret:",
            TEXTS,
            ["test_short_secret_leaves_messages_alone"],
        ),
        (
            "a secret that is sent again is remembered for longer",
            "spellings = self._known.pop(secret, None)",
            "spellings = self._known.get(secret)",
            TEXTS,
            ["test_oldest_secret_is_forgotten_and_used_one_is_not"],
        ),
    ),
    *_mutants(
        "client/texts.py",
        (
            "what is not printable is escaped",
            "if text.isprintable():",
            "if True:",
            SPELLINGS,
            ["test_no_message_has_a_character_that_is_not_printable"],
        ),
        (
            "a text is cut after its secrets are redacted",
            "redacted = redact(beginning)",
            "redacted = beginning",
            TEXTS,
            ["test_excerpt_cuts_no_secret_in_two"],
        ),
        (
            "a part of a header's value is a secret too",
            "for secret in (value, *_SEPARATORS.split(value), *_credentials_in(value)):",
            "for secret in (value, *_credentials_in(value)):",
            TEXTS,
            ["test_part_of_a_header_that_is_a_secret_by_itself"],
        ),
        (
            "so are user and password of basic authentication",
            "for secret in (value, *_SEPARATORS.split(value), *_credentials_in(value)):",
            "for secret in (value, *_SEPARATORS.split(value)):",
            TEXTS,
            ["test_part_of_a_header_that_is_a_secret_by_itself"],
        ),
        (
            "log records of the package are cleaned",
            "record.msg, record.args = clean(record.getMessage()), None",
            "pass",
            SPELLINGS,
            ["test_log_record_has_no_secret_and_is_one_line"],
        ),
        (
            "messages of structlog are cleaned",
            "return clean(str(message) % tuple(values) if values else str(message))",
            "return str(message) % tuple(values) if values else str(message)",
            TEXTS,
            ["test_logger_without_filters_is_wrapped"],
        ),
    ),
    *_mutants(
        "client/errors.py",
        (
            "the message of an error is cleaned",
            "message = clean(message)\n        super",
            "message = str(message)\n        super",
            SERVERS,
            ["test_no_spelling_of_a_secret_in_any_text", "test_no_message_has_a_character_that_is_not_printable"],
        ),
        (
            "so is one that is amended",
            "self.message = clean(message)",
            "self.message = message + ''",
            SPELLINGS,
            ["test_secret_is_in_no_error_in_any_spelling"],
        ),
    ),
    *_mutants(
        "client/transport/backend.py",
        (
            "what a server says is cleaned in the cause of an error too",
            "super().__init__(clean(message))",
            "super().__init__(message)",
            SPELLINGS,
            ["test_secret_is_in_no_error_in_any_spelling"],
        ),
        (
            "a success before the complete body was sent acknowledges nothing",
            "if status < 300 and not (self.is_complete and _is_delivered(sock)):",
            "if False:",
            ENGINES,
            ["test_an_early_success_acknowledges_nothing"],
        ),
        (
            "what a body raised is raised",
            "if upload.error is not None:",
            "if False:",
            ENGINE_LIFE,
            ["test_error_of_a_body_arrives_as_it_was_raised"],
        ),
        (
            "nor does one before the server's system took the body",
            "(self.is_complete and _is_delivered(sock))",
            "self.is_complete",
            HOSTILE_UPLOADS,
            ["test_short_upload_is_not_acknowledged_early"],
        ),
    ),
    *_mutants(
        "client/transport/aiohttp_backend.py",
        (
            "a request is sent once, also where aiohttp would repeat it",
            "middlewares=(_send_once,)",
            "middlewares=()",
            ENGINE_LIFE,
            ["test_delete_is_sent_once_when_the_connection_breaks"],
        ),
        (
            "an answer that came while the connection was idle answers no request",
            " or self.protocol.should_close:",
            ":",
            ENGINE_ANSWERS,
            ["test_answer_to_no_request_is_given_to_no_other"],
        ),
        (
            "a body that ends with a reset is not complete",
            "if not piece and self.response.was_reset:",
            "if False:",
            HOSTILE_ANSWERS,
            ["test_hostile_end_over_tls_is_no_wrong_body"],
        ),
        (
            "an abandoned upload keeps no socket",
            "self.transport.abort()",
            "pass",
            ENGINE_LIFE,
            ["test_abandoned_upload_keeps_no_socket"],
        ),
    ),
    *_mutants(
        "client/transport/httpx_backend.py",
        (
            "a cancelled request does not lose its connection",
            "return await asyncio.shield(sending)",
            "return await sending",
            ENGINE_LIFE,
            ["test_cancelled_requests_leave_no_busy_connection"],
        ),
        (
            "bytes behind an answer answer no request",
            "not self._may_be_answered:",
            "False:",
            HOSTILE_ANSWERS,
            ["test_hostile_answer_is_no_wrong_body"],
        ),
        (
            "no cookie is kept",
            "            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),\n",
            "",
            ENGINE_ANSWERS,
            ["test_redirects_cookies_and_compression_are_left_alone"],
        ),
    ),
    *_mutants(
        "client/transport/connections.py",
        (
            "a forked child leaves the connections to its parent",
            "_inherited.extend([transport._pools for transport in _transports])",
            "pass",
            ENGINE_LIFE,
            ["test_fork_leaves_the_pool_to_its_parent"],
        ),
        (
            "a body in an unknown transfer coding is not handed out",
            '("transfer-encoding", "chunked")',
            '("content-encoding", "identity")',
            HOSTILE_ANSWERS,
            ["test_hostile_answer_is_no_wrong_body"],
        ),
        (
            "the token is a secret",
            "remember_secret(token)",
            "pass",
            SERVERS,
            ["test_no_spelling_of_a_secret_in_any_text"],
        ),
        (
            "the values of a client's headers are secrets",
            "        for name, value in (headers or {}).items():\n            remember_header(name, value)\n",
            "        pass\n",
            SERVERS,
            ["test_no_spelling_of_a_secret_in_any_text"],
        ),
        (
            "a single request may have secret headers",
            "if is_secret_name(name):  # other headers are checksums and sizes, which errors show",
            "if False:  # other headers are checksums and sizes, which errors show",
            SERVERS,
            ["test_secret_header_of_a_single_request_is_in_no_error"],
        ),
    ),
    *_mutants(
        "client/protocol/endpoint.py",
        (
            "user and password of an address are not shown",
            'shown = ip_addr.rpartition("@")[2] if isinstance(ip_addr, str) else ip_addr  # without user and password',
            "shown = ip_addr  # without user and password",
            TEXTS,
            ["test_user_and_password_of_an_address_are_not_shown"],
        ),
    ),
    *_mutants(
        "client/protocol/listing_parser.py",
        (
            "the rows of a listing begin at its top level",
            '                _decode_object(head + b"]}")\n',
            "",
            LISTINGS,
            ["test_nested_listing_is_skipped_with_few_decodes"],
        ),
        (
            "a guess that fails waits for twice as many bytes",
            "self._required = 2 * len(self._rest)",
            "self._required = SLICE",
            LISTINGS,
            ["test_misleading_text_costs_few_decodes"],
        ),
        (
            "replicas that differ stay apart",
            "row = shared if shared == row else row",
            "row = shared",
            LISTINGS,
            ["test_replicas_that_differ_stay_apart"],
        ),
    ),
    *_mutants(
        "batches/runner.py",
        (
            "the message of a failure is cleaned, whoever wrote the record",
            "    message: CleanText",
            "    message: str",
            SPELLINGS,
            ["test_texts_of_a_record_are_printable_and_keys_are_exact"],
        ),
    ),
    *_mutants(
        "hooks/summaries.py",
        (
            "the lines of a connection's test are cleaned",
            "clean(_router_line(check, len(spaces) > 1))",
            "_router_line(check, len(spaces) > 1)",
            SERVERS,
            ["test_peers_of_a_server_forge_no_line"],
        ),
    ),
    *_mutants(
        "hooks/clean_log.py",
        (
            "what a hook logs is cleaned",
            "return clean_logger(super().log)",
            "return super().log",
            SERVERS,
            ["test_keys_of_a_stranger_forge_no_line_and_are_exact_as_data"],
        ),
    ),
    *_mutants(
        "fs/filesystem.py",
        (
            "a forked process gets a loop and clients of its own",
            "if self._pid != os.getpid():",
            "if False:",
            FILES,
            ["test_after_a_fork_the_same_filesystem_works"],
        ),
        (
            "a URL of another connection is refused",
            "if conn_id not in (None, self.conn_id):",
            "if False:",
            FILES,
            ["test_a_url_of_another_connection_is_refused"],
        ),
        (
            "exclusive writes look first",
            "        if create:\n",
            "        if False:\n",
            FILES,
            ["test_exclusive_writes_look_first"],
        ),
        (
            "a walk does not hide a failed listing",
            'elif on_error == "raise" or not isinstance(error, FileNotFoundError):',
            'elif on_error == "raise":',
            FILES,
            ["test_unanswered_questions_are_errors_and_not_no"],
        ),
        (
            "a listing is used again for the given time only",
            "time.monotonic() - listed_at > (self.listings_expiry_time or 0):",
            "False:",
            FILES,
            ["test_listings_are_fresh_unless_a_time_is_given"],
        ),
    ),
    *_mutants(
        "fs/calls.py",
        (
            "an interrupted caller cancels the work",
            "loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])",
            "pass",
            FILES,
            ["test_a_signal_in_the_caller_stops_the_upload"],
        ),
        (
            "a cancelled call leaves none of its tasks running",
            "        await call.stop()\n",
            "",
            FILES,
            ["test_a_cancelled_coroutine_stops_its_tasks", "test_a_signal_in_the_caller_stops_the_upload"],
        ),
    ),
    *_mutants(
        "fs/files.py",
        (
            "a wrapper that fails stores nothing",
            "self._pid != os.getpid() or self._is_closed_by_failing_block()",
            "self._pid != os.getpid()",
            FILES,
            ["test_an_exception_in_a_with_block_stores_nothing"],
        ),
        (
            "a file that is closed while another exception is handled is stored",
            "return any(item is error for item in given)",
            "return True",
            FILES,
            ["test_a_file_written_while_an_exception_is_handled_is_stored"],
        ),
        (
            "a forked process does not delete its parent's temporary file",
            "if temporary and self._pid == os.getpid():",
            "if temporary:",
            FILES,
            ["test_a_file_that_is_being_written_survives_a_fork"],
        ),
        (
            "a compressed file closes the file under it",
            "        finally:\n            self._inner.close()",
            "        finally:\n            pass",
            FILES,
            ["test_a_compressed_file_is_stored_when_it_is_closed"],
        ),
        (
            "after a failed write, close raises too",
            "        if self._error is not None:\n            raise self._error\n",
            "",
            FILES,
            ["test_a_full_folder_for_temporary_files_is_named"],
        ),
        (
            "data out of order is not hashed in order",
            "        if after != before:\n            self._stop_hash()\n",
            "",
            FILES,
            ["test_data_may_be_written_out_of_order"],
        ),
    ),
    *_mutants(
        "fs/chunk_cache.py",
        (
            "a chunk under way is not asked for twice",
            "other = self._under_way.get(checksum)",
            "other = None",
            FILES,
            ["test_chunks_are_read_once_by_all_files_and_threads"],
        ),
        (
            "chunks are kept",
            "if data.nbytes > self.capacity:",
            "if True:",
            FILES,
            ["test_chunks_are_read_once_by_all_files_and_threads"],
        ),
    ),
    *_mutants(
        "fs/directories.py",
        (
            "removed directories are forgotten",
            "if made != path and path not in parents(made)",
            "if True",
            FILES,
            ["test_made_directories_are_remembered_until_they_are_removed"],
        ),
    ),
    *_mutants(
        "assets/mictlanx.py",
        (
            "the URI of a path is percent-encoded",
            'path=quote(unquote_to_bytes(uri.path), safe="/")',
            "path=uri.path",
            FILES,
            ["test_an_asset_of_a_path_is_the_asset_of_the_object"],
        ),
    ),
    *_mutants(
        "batches/folder_versions.py",
        (
            "a rollback does not use the manifest of a version that may be removed",
            "if reused and manifest.version in older:",
            "if False:",
            FOLDER_VERSIONS,
            ["test_remove_old_versions_beside_a_rollback"],
        ),
        (
            "a version is made current after its manifest was stored",
            "    release = current\n",
            "    release = current\n    await _put(client, releases_bucket(bucket_id), Release(9, 0, version).name(bundle), b'x', options)\n",
            FOLDER_VERSIONS,
            ["test_publish_killed_at_any_request_old_or_new"],
        ),
        (
            "files that could not be stored are not published",
            '    if outcome.failures:\n        raise batch_error(f"publishing',
            '    if False:\n        raise batch_error(f"publishing',
            FOLDER_VERSIONS,
            ["test_publish_failed_file_keeps_the_version"],
        ),
        (
            "a file counts as stored only while it is listed",
            " if (file.key(bundle), file.sha256) in listed}",
            "}",
            FOLDER_VERSIONS,
            ["test_publish_lost_file_sends_it_again"],
        ),
        (
            "a link does not publish a file outside of the folder",
            " or not path.resolve().is_relative_to(real_root)",
            "",
            FOLDER_VERSIONS,
            ["test_publish_unfit_folder_is_refused_before_requests"],
        ),
        (
            "a silent peer does not bring back an older version",
            "    if missing and hidden:",
            "    if False:",
            FOLDER_VERSIONS,
            ["test_find_current_version_silent_peer_positive_only"],
        ),
        (
            "a manifest has the bytes that were published",
            "    if hashlib.sha256(data).hexdigest() != version:",
            "    if False:",
            FOLDER_VERSIONS,
            ["test_fetch_replaced_bytes_are_refused"],
        ),
        (
            "the paths of a manifest are checked",
            "        check_paths(file.path for file in manifest.files)\n",
            "",
            FOLDER_VERSIONS,
            ["test_fetch_unsafe_path_is_refused"],
        ),
        (
            "files of a publication at the same time are kept",
            "ball.key.removeprefix(prefix)[:10] < newest_old_day and ",
            "",
            FOLDER_VERSIONS,
            ["test_remove_old_versions_keeps_what_may_be_used"],
        ),
        (
            "files of kept versions are kept",
            " and ball.key not in needed",
            "",
            FOLDER_VERSIONS,
            ["test_remove_old_versions_keeps_what_may_be_used"],
        ),
        (
            "releases are removed last",
            "    if not any(outcome.failures for outcome in outcomes):",
            "    if True:",
            FOLDER_VERSIONS,
            ["test_remove_old_versions_interrupted_continues"],
        ),
        (
            "an incomplete local copy is not used",
            "return manifest if manifest.is_complete(folder) else None",
            "return manifest",
            BUNDLES,
            ["test_damaged_local_copy_is_renewed"],
        ),
    ),
    *_mutants(
        "bundles/mictlanx.py",
        (
            "a version can't leave the folder of local copies",
            "        folder_versions.check_version(version)\n",
            "",
            BUNDLES,
            ["test_invalid_version_is_refused"],
        ),
        (
            "a slower process does not switch back",
            "            if self._current() != before:\n                return\n",
            "",
            BUNDLES,
            ["test_slower_process_does_not_switch_back"],
        ),
        (
            "the current local copy is locked",
            "        self._keep_from_cleanup()\n",
            "",
            BUNDLES,
            ["test_current_version_is_kept_from_cleanup"],
        ),
        (
            "the last version stays in use",
            "            if not usable:\n                raise\n",
            "            raise\n",
            BUNDLES,
            ["test_storage_down_last_version_stays", "test_broken_publication_keeps_last_version"],
        ),
        (
            "a hung storage does not stop the DAG processor",
            "CHECK_SECONDS if usable else None",
            "None",
            BUNDLES,
            ["test_storage_hung_keeps_last_version_soon"],
        ),
        (
            "one of many processes reads a version",
            "        with self.lock():\n            if read_local_manifest(copy) is not None:\n                return\n",
            "        with self.lock():\n",
            BUNDLES,
            ["test_20_processes_initialize_one_version"],
        ),
    ),
    *_mutants(
        "bulks/sync.py",
        (
            "a file with a second name is not deleted",
            "kept = {*names, *await self.destination.find_aliases(extra, wanted)}",
            "kept = {*names}",
            SYNC,
            ["test_file_with_a_second_name_is_kept"],
        ),
        (
            "a folder is not synced into itself through another connection",
            "        self._check_separate(wanted, found)\n",
            "",
            SYNC,
            ["test_nested_sides_by_other_routers_are_refused"],
        ),
        (
            "an object that came to the source since is not deleted",
            "            names = await self.source.names_still_there(self._bucket_id, self.options)\n",
            "            names = wanted\n",
            SYNC,
            ["test_what_changes_during_the_sync_is_kept"],
        ),
    ),
    *_mutants(
        "batches/delete.py",
        (
            "an age needs a unit",
            'if text[-1:].isalpha() and not text.endswith("M"):',
            "if True:",
            UPKEEP,
            ["test_wrong_selection_is_refused_first"],
        ),
        (
            "an upload under way is never too old",
            "for key, rows in objects.items() if is_complete(rows)}",
            "for key, rows in objects.items()}",
            UPKEEP,
            ["test_old_objects_are_deleted"],
        ),
        (
            "what changed since it was selected by age is not deleted",
            "if not _announced(rows) <= _announced(chosen[key])",
            "if False",
            UPKEEP,
            ["test_objects_that_change_meanwhile_are_kept"],
        ),
        (
            "a whole bucket is deleted only if that is allowed",
            "if not self.allow_whole_bucket and not self.prefix and matches_all:",
            "if False:",
            UPKEEP,
            ["test_whole_bucket_must_be_allowed"],
        ),
    ),
    *_mutants(
        "bulks/attempt.py",
        (
            "a cancelled attempt withdraws its announcements",
            "                await self._windows.withdraw()\n",
            "                pass\n",
            BULK,
            ["test_cancelled_attempt_withdraws_its_announcements"],
        ),
    ),
    *_mutants(
        "cli/main.py",
        (
            "a shell that is terminated withdraws its announcements",
            "asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)",
            "pass",
            SHELL,
            ["test_ended_upload_leaves_no_object_without_data"],
        ),
    ),
    *_mutants(
        "log/storage.py",
        (
            "two files' parts have different names",
            "return cls(secrets.token_hex(8), head,",
            'return cls("0" * 16, head,',
            LOGS,
            [
                "test_upload_of_a_file_that_was_written_anew",
                "test_second_upload_from_another_worker_adds_its_lines",
            ],
        ),
    ),
    *_mutants(
        "plugins/web/app.py",
        (
            "bulks need the right to see tasks",
            'APIRouter(dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE))])',
            "APIRouter()",
            PAGE,
            ["test_bulks_are_those_of_readable_dags", "test_every_route_without_login_answers_401"],
        ),
        (
            "connections need the right to see them",
            'APIRouter(prefix="/connections", dependencies=[Depends(requires_access_connection("GET"))])',
            'APIRouter(prefix="/connections")',
            PAGE,
            ["test_every_route_without_login_answers_401", "test_roles"],
        ),
        (
            "no answer contains a secret",
            "return super().render(_clean_texts(content))",
            "return super().render(content)",
            LOOKS,
            ["test_no_answer_contains_a_secret"],
        ),
    ),
    *_mutants(
        "plugins/web/queries.py",
        (
            "bulks are those of DAGs that the user may read",
            "task.operator == OPERATOR, task.dag_id.in_(dag_ids)",
            "task.operator == OPERATOR",
            PAGE,
            ["test_bulks_are_those_of_readable_dags"],
        ),
    ),
    *_mutants(
        "triggers/watchers.py",
        (
            "an older version is not the listed one",
            "if describe(found).content != listed.content:",
            "if False:",
            EVENTS,
            ["test_changed_object_fires_once_its_new_data_is_readable"],
        ),
        (
            "a state is noted after all events of a snapshot were taken",
            "found = await self.compare(content, snapshot.reader, self._state)",
            "found = await self.compare(content, snapshot.reader, self._state); snapshot.states.append((self, found.state))",
            EVENTS,
            ["test_watcher_cancelled_between_events_fires_the_rest"],
        ),
        (
            "a state is not noted if Airflow has not stored the events",
            "if not item.outcome.is_clean:",
            "if False:",
            EVENTS,
            ["test_events_that_are_never_confirmed_are_not_noted"],
        ),
        (
            "nor are later states, which include the lost events",
            "self._doubtful = self._polls",
            "self._doubtful = snapshot.number",
            EVENTS,
            ["test_unconfirmed_event_is_repeated_in_spite_of_later_ones"],
        ),
        (
            "one failed poll does not interrupt reading",
            "                    if failures > 1:",
            "                    if True:",
            EVENTS,
            ["test_failed_poll_does_not_interrupt_reading"],
        ),
        (
            "a watcher that Airflow has ended stores no state",
            "        if self.trigger.ended:\n",
            "        if False:\n",
            EVENTS,
            ["test_event_that_airflow_drops_with_its_watcher_fires_again"],
        ),
        (
            "states that were not stored because of another watcher are stored later",
            "                    watcher.store_later()\n",
            "                    pass\n",
            EVENTS,
            ["test_removed_watcher_does_not_restart_the_others"],
        ),
        (
            "what all of several assets have seen is continued",
            "first, *others = states",
            "first, *others = [{key: seen[key] for seen in states for key in seen}]",
            EVENTS,
            [
                "test_two_assets_on_one_trigger_go_on_with_the_oldest_state",
                "test_assets_with_other_histories_lose_no_event",
            ],
        ),
        (
            "a damaged state is skipped",
            'states.append((int(stored["sequence"]), await compute(partial(decode_seen, stored["state"]))))',
            'states.append((stored["sequence"], stored["state"]))',
            EVENTS,
            ["test_damaged_state_is_skipped"],
        ),
        (
            "a state is not written over the one before",
            "self._store_keys()[sequence % 2]",
            "self._store_keys()[0]",
            EVENTS,
            ["test_killed_write_of_a_state_repeats_events"],
        ),
        (
            "a failed write is repeated to the same key",
            "sequence = self._sequence + 1\n",
            "sequence = self._sequence = self._sequence + 1\n",
            EVENTS,
            ["test_state_that_was_not_written_is_written_later"],
        ),
        (
            "the newest state of an asset is continued",
            "return max(states, key=itemgetter(0)",
            "return min(states, key=itemgetter(0)",
            EVENTS,
            ["test_restart_goes_on_where_events_were_stored"],
        ),
        (
            "an unreadable state is skipped only if there is another",
            "            if not states:\n",
            "            if False:\n",
            EVENTS,
            ["test_unreadable_state_is_no_baseline"],
        ),
        (
            "objects are compared in a thread",
            "await asyncio.get_running_loop().run_in_executor(COMPUTING, work)",
            "work()",
            EVENTS,
            ["test_all_watchers_compare_in_one_thread"],
        ),
        (
            "the state store is called in a thread",
            "work = asyncio.ensure_future(run_in_thread(partial(call, *args)))",
            "return call(*args)",
            EVENTS,
            ["test_restart_goes_on_where_events_were_stored"],
        ),
        (
            "a state that was not written is written later",
            "            self.store_later()\n            self.log_failure",
            "            self.log_failure",
            EVENTS,
            ["test_state_that_was_not_written_is_written_later"],
        ),
        (
            "a first state that is too large is not kept in memory alone",
            "await compute(lambda: self.encode(seen))  #",
            "pass  #",
            EVENTS,
            ["test_state_that_is_too_large_names_prefix"],
        ),
        (
            "a deleted object is forgotten",
            "seen = {found.id: state[found.id] for found in selected if found.id in state}",
            "seen = dict(state)",
            EVENTS,
            ["test_only_other_bytes_are_a_change"],
        ),
        (
            "an object is read before its event",
            "await self._readable(reader, pending) if self.trigger.check_storage else pending",
            "pending",
            EVENTS,
            ["test_object_fires_once_its_data_is_readable"],
        ),
        (
            "unreadable objects do not keep the place of readable ones",
            "sorted(pending, key=lambda found: failed[found.id])",
            "pending[: self.trigger.max_events_per_poll]",
            EVENTS,
            ["test_object_fires_once_its_data_is_readable"],
        ),
        (
            "a failed poll does not end the stream",
            "                failures += 1\n",
            "                raise\n",
            EVENTS,
            ["test_missing_connection_does_not_end_a_watcher", "test_silent_peer_loses_and_invents_no_event"],
        ),
        (
            "a closed bulk names its upload",
            "first = status.closed.upload if status.closed else first_attempt(content.starts)",
            "first = first_attempt(content.starts)",
            EVENTS,
            [
                "test_bulk_fires_once_for_each_upload",
                "test_closed_bulk_fires_again_after_its_delete",
                "test_closed_bulk_keeps_the_id_of_its_event",
            ],
        ),
        (
            "a bulk that is being deleted fires nothing",
            "attempts = {first, *(start.attempt for start in content.starts)}",
            "attempts = {first}",
            EVENTS,
            ["test_bulk_that_is_being_deleted_fires_nothing"],
        ),
        (
            "a bulk that was uploaded again fires",
            "[event] if seen.keys().isdisjoint(state or {}) else []",
            "[] if state else [event]",
            EVENTS,
            ["test_closed_bulk_that_was_uploaded_again_fires", "test_bulk_fires_once_for_each_upload"],
        ),
        (
            "an object is read as it is listed",
            "check_storage=True, listed=ball)",
            "check_storage=True)",
            EVENTS,
            ["test_object_fires_beside_one_of_its_name"],
        ),
        (
            "an unreadable object does not fill the log",
            "if failed[found.id].bit_count() == 1:",
            "if True:",
            EVENTS,
            ["test_unreadable_object_does_not_fill_the_log"],
        ),
        (
            "an event that Airflow cannot send does not end the triggerer",
            "yield event_payload(payload)",
            "yield payload",
            EVENTS,
            ["test_sizes_that_airflow_cannot_send_are_limited"],
        ),
        (
            "reading stops when the object is gone",
            "self._reads.pop(entry).cancel()",
            "del self._reads[entry]",
            EVENTS,
            ["test_reading_stops_when_the_object_is_gone"],
        ),
        (
            "an unchanged listing that may hide an object is looked up again",
            "rows if await compute(lambda: _hides_nothing(listing.balls, balls)) else None",
            "rows",
            EVENT_STATES,
            ["test_object_that_the_listing_hides_is_found_by_the_next_poll"],
        ),
        (
            "an unchanged listing is compared again while objects wait",
            "is_waiting=len(fired) < len(pending)",
            "is_waiting=False",
            EVENTS,
            ["test_more_events_wait_for_the_next_poll"],
        ),
    ),
    *_mutants(
        "triggers/events.py",
        (
            "a watcher that Airflow cancels between two events has ended",
            'about a second later."""\n        self.ended = True\n',
            'about a second later."""\n',
            EVENTS,
            ["test_event_dropped_while_the_next_ones_fire_comes_again"],
        ),
        (
            "wrong arguments do not end the triggerer",
            "        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]\n",
            "        super().__init__()\n        self.create_watcher().check_arguments()\n",
            EVENT_STATES,
            ["test_wrong_arguments_fail_in_the_dag_file_only"],
        ),
        (
            "in the triggerer, arguments are not checked",
            "if self.trigger_id is None:",
            "if True:",
            IMPORTS,
            ["test_airflow_imports_no_client_on_the_event_loop"],
        ),
        (
            "what finds the events is imported in a thread",
            "await asyncio.to_thread(self.create_watcher)",
            "self.create_watcher()",
            EVENT_STATES,
            ["test_watchers_are_imported_in_a_thread"],
        ),
        (
            "what polls is imported in a thread",
            "await asyncio.to_thread(self._trigger.create_poller)",
            "self._trigger.create_poller()",
            EVENT_STATES,
            ["test_watchers_are_imported_in_a_thread"],
        ),
    ),
)


def source_of(mutant: Mutant, root: Path = PROJECT) -> Path:
    """Return the file that the mutant changes."""
    return root / PACKAGE / mutant.file


@dataclass(frozen=True)
class _Run:
    """How a run of pytest ended: the exit status (None after a timeout), the seconds, and the output."""

    status: int | None
    seconds: float
    output: str

    def passed(self, name: str) -> bool:
        """Return whether a test passed, with all its parameters."""
        results = re.findall(rf"^(PASSED|FAILED|ERROR) \S+::{re.escape(name)}(?:\[| |$)", self.output, re.MULTILINE)
        return set(results) == {"PASSED"}

    @property
    def reason(self) -> str:
        """The first failed test and its error, or else the last line."""
        failed = re.search(r"^(?:FAILED|ERROR) (?:\S+?::)?(.+)", self.output, re.MULTILINE)
        return failed[1] if failed else self.output.strip().rpartition("\n")[2]


_done = multiprocessing.Value("i", 0)


def main() -> int:
    """Run the selected mutants and return the number that were not caught, at most 100."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "only", nargs="*", help="part of a file name or of a guard's description (default: all mutants)"
    )
    arguments.add_argument("--part", default=":", help="slice of the table, as 100:200 (default: all)")
    arguments.add_argument("--jobs", type=int, default=2, help="number of mutants at the same time (default: 2)")
    told = arguments.parse_args()
    first, last = (int(number) if number else None for number in told.part.split(":"))
    chosen = [
        mutant
        for mutant in MUTANTS[first:last]
        if not told.only or any(piece in f"{mutant.file} {mutant.guard}" for piece in told.only)
    ]
    for module in _IMPORTED_ONCE:
        with contextlib.suppress(ImportError):  # not each version of Airflow needs all of them
            importlib.import_module(module)
    by_tests = attrgetter("tests")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("fork").Pool(told.jobs) as pool:
        groups = [
            (list(group), Path(folder) / str(at), len(chosen))
            for at, (_, group) in enumerate(itertools.groupby(sorted(chosen, key=by_tests), by_tests))
        ]
        caught = sum(pool.starmap(_run_group, groups, chunksize=1))
    print(f"{caught} of {len(chosen)} mutants were caught, in {time.monotonic() - started:.0f} s")
    return min(len(chosen) - caught, 100)


def _run_group(mutants: Sequence[Mutant], root: Path, number: int) -> int:
    """Run mutants of one test file in one copy of the project, and return how many were caught."""
    for name in _COPIED:
        source, copy = PROJECT / name, root / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, copy)
    tests = mutants[0].tests
    before = _run(root, tests, {name for mutant in mutants for name in mutant.names}, keep_bytecode=True)
    longest = max(_LONGEST, 10 * before.seconds)
    caught = 0
    for mutant in mutants:
        started = time.monotonic()
        result, reason = _run_mutant(mutant, root, before, longest)
        caught += result == "caught"
        with _done.get_lock():
            _done.value += 1
            text = f"{_done.value:3} of {number}  {result}  {time.monotonic() - started:5.1f} s  {mutant.file}: {mutant.guard}"
            print(f"{text}\n{' ' * 12}{reason}", flush=True)
    shutil.rmtree(root, ignore_errors=True)
    return caught


def _run_mutant(mutant: Mutant, root: Path, before: _Run, longest: float) -> tuple[str, str]:
    """Return a mutant's result and the reason for it. The project's copy is the same before and after."""
    if failed := [name for name in mutant.names if not before.passed(name)]:
        return "BROKEN", f"without the mutant, {', '.join(failed)} must pass: {before.reason}"
    path = source_of(mutant, root)
    text, status = path.read_text(), path.stat()
    if text.count(mutant.old) != 1:
        return "BROKEN", "the replaced text must occur exactly once in the file"
    path.write_text(text.replace(mutant.old, mutant.new))
    run = _run(root, mutant.tests, mutant.names, "-x", longest=longest)
    path.write_text(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    if run.status is None:
        # Either the mutant hangs or the machine is busy: compare with a run at about the same time.
        again = _run(root, mutant.tests, mutant.names, longest=longest)
        hangs = again.status == 0 and 10 * again.seconds < run.seconds
        return "caught" if hangs else "TIMED OUT", f"{run.seconds:.0f} s; without the mutant {again.seconds:.0f} s"
    return "caught" if run.status == 1 else "SURVIVED", run.reason


def _run(
    root: Path,
    tests: str,
    names: Collection[str],
    *options: str,
    longest: float | None = None,
    keep_bytecode: bool = False,
) -> _Run:
    """Run tests of a copy of the project in a new process, and end what they leave behind."""
    started = time.monotonic()
    output = root / "output"
    pid = os.fork()
    if pid == 0:
        _be_pytest(root, output, [tests, "-k", " or ".join(names), *options], keep_bytecode)
    status = None
    while status is None and (longest is None or time.monotonic() - started < longest):
        time.sleep(0.05)
        ended, code = os.waitpid(pid, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if ended else None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if status is None:
        os.waitpid(pid, 0)
    return _Run(status, time.monotonic() - started, output.read_text(errors="replace"))


def _be_pytest(root: Path, output: Path, arguments: list[str], keep_bytecode: bool) -> NoReturn:
    status = 3
    try:
        os.setsid()
        os.chdir(root)
        with output.open("w") as written, open(os.devnull) as nothing:
            for descriptor, file in enumerate((nothing, written, written)):
                os.dup2(file.fileno(), descriptor)
        sys.path.insert(0, str(root))
        sys.dont_write_bytecode = not keep_bytecode
        # The copy's bytecode fits the source without mutants, also in processes that tests start.
        os.environ["PYTHONDONTWRITEBYTECODE"] = "" if keep_bytecode else "1"
        os.environ["COLUMNS"] = "250"  # errors are not cut
        os.environ["TMPDIR"] = str(root / "tmp")
        (root / "tmp").mkdir(exist_ok=True)
        tempfile.tempdir = None
        options = ["-q", "-rpfE", "-p", "no:cacheprovider", "--timeout", "0", "--show-capture=no", "--tb=short"]
        status = int(importlib.import_module("pytest").main([*options, *arguments]))
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
