"""Takes one protection out at a time, and tells whether a test notices: ``python -m dev.mutants [NAME ...]``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "airflow_provider_amzbiz"
# What has lost its end would wait for ever; no test of the list takes so long otherwise.
_TIMEOUT_SECONDS = 40
# pytest's own codes; every other one says that the list is wrong, or that pytest is.
_PASSED, _FAILED = 0, 1


@dataclass(frozen=True)
class Mutant:
    """A mistake that somebody might make, in one place.

    :ivar name: to run it alone by.
    :ivar fault: what is not survived any more.
    :ivar file: in the package.
    :ivar old: what is there, exactly once.
    :ivar new: what is put in its place.
    :ivar tests: pytest's arguments, separated by spaces; one of these tests has to fail.
    """

    name: str
    fault: str
    file: str
    old: str
    new: str
    tests: str

    def applied(self, text: str) -> str:
        """Return the file's text with the mistake in it.

        :raises ValueError: the place is not there, or there are several.
        """
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"{self.name}: its old text has to be once in {self.file}, but is {found} times")
        return text.replace(self.old, self.new)


# Their old text and their new one stand together.
# fmt: off
MUTANTS = [
    Mutant("id-forgotten", "worker lost after createReport", "durable_create.py",
           "        record.save(request, report_id=report_id)\n    except", "        pass\n    except",
           "tests/operators/test_create_once.py::test_a_report_with_options_is_gone_on_with_by_its_id"),
    Mutant("request-unnoted", "worker lost during createReport", "durable_create.py",
           "        record.save(request, sent=sent, lookups=0, adopted=False)\n", "",
           "tests/operators/test_create_once.py::test_a_worker_that_died_before_it_could_note_the_id"),
    Mutant("not-looked-for", "answer of createReport lost", "durable_create.py",
           "        report_id = find_lost(hook, request, sent, lost, record)", "        report_id = None",
           "tests/operators/test_create_once.py::test_a_report_whose_id_was_lost_is_found"),
    Mutant("options-looked-for", "another's invoice taken from a listing", "durable_create.py",
           "    if not request.is_recognizable:\n        log.warning(", "    if False:\n        log.warning(",
           "tests/operators/test_create_once.py::test_with_options_nothing_is_taken_from_a_listing"),
    Mutant("invoice-taken", "another's invoice taken, without options", "client/request.py",
           " and self.report_type not in ALWAYS_WITH_OPTIONS", "",
           "tests/operators/test_adoption.py::test_a_type_that_always_has_options_is_never_taken"),
    Mutant("too-old-taken", "report from before the request was sent", "durable_create.py",
           "if any(since <= report.created_time <= until for since, until in times)",
           "if any(report.created_time <= until for since, until in times)",
           "tests/operators/test_adoption.py"),
    Mutant("too-young-taken", "report from long after the response was lost", "durable_create.py",
           "if any(since <= report.created_time <= until for since, until in times)",
           "if any(since <= report.created_time for since, until in times)",
           "tests/operators/test_adoption.py::test_a_retry_takes_no_report_of_another_time"),
    Mutant("clocks-agree", "clocks that are an hour apart", "durable_create.py",
           "return listed(hook.client.clock_offset) if _is_far(hook.client.clock_offset - assumed) else found",
           "return found",
           "tests/operators/test_create_once.py::test_the_first_look_up_goes_by_the_clock_of_the_api"),
    Mutant("adopted-cancelled", "report from a listing cancelled with the task", "operators/reports.py",
           "cancels = own and not record.is_adopted(request)", "cancels = own",
           "tests/operators/test_adoption.py"),
    Mutant("sent-when-queued", "report from while the task was queued", "durable_create.py",
           "        sent[before:] = [[time.time(), None]]", "        sent[before:] = [[time.time() - 3600, None]]",
           "tests/operators/test_adoption.py::test_a_report_made_while_the_task_waited_for_its_permit_is_not_taken"),
    Mutant("refusal-remembered", "refused request that is looked up later", "durable_create.py",
           "        else:\n            record.clear()\n    except", "    except",
           "tests/operators/test_adoption.py::test_a_refused_request_leaves_nothing_to_look_for"),
    Mutant("kill-is-success", "SIGTERM taken for the report's own end", "operators/reports.py",
           "        if self._killed and (event", "        if False and (event",
           "tests/operators/test_ended_tasks.py"),
    Mutant("kill-cancels-nothing", "SIGTERM that leaves its report", "operators/reports.py",
           "            self._wait.interrupt()\n        elif", "            pass\n        elif",
           "tests/operators/test_ended_tasks.py"),
    Mutant("kill-skips", "SIGTERM to a sensor that may fail softly", "sensors/reports.py",
           "            if self._killed:\n                # Whatever",
           "            if False:\n                # Whatever",
           "tests/operators/test_ended_tasks.py"),
    Mutant("kill-swallowed", "SIGTERM to a sensor during a poll", "sensors/reports.py",
           "        if self._killed:\n            self._raise_killed()\n        return Poke",
           "        return Poke",
           "tests/operators/test_ended_tasks.py::test_a_sensor_leaves_the_report_and_is_retried"),
    Mutant("denied-ends-all", "access denied to one report", "triggers/poll_failures.py",
           "    if isinstance(error, AccessDeniedError):\n        return PollFailure.DENIED",
           "    if isinstance(error, AccessDeniedError):\n        return PollFailure.CREDENTIALS",
           "tests/triggers/test_poller.py::test_access_that_is_denied_to_one_report_ends_its_wait_only"),
    Mutant("refused-once", "secret rotated while a wait lasts", "triggers/subscriptions.py",
           "if self.refused is not None and self.refused is not hook:", "if True:",
           "tests/triggers/test_poller.py::test_a_connection_that_was_mended_meanwhile_is_read_anew"),
    Mutant("one-speaks-for-all", "two connections of one account", "triggers/subscriptions.py",
           "    def notify(self, error: AmazonBusinessError, *, last: bool = False) -> None:",
           "    def notify(self, error: AmazonBusinessError, *, last: bool = True) -> None:",
           "tests/triggers/test_poller.py::test_failing_looks_fail_no_wait"),
    Mutant("type-blamed", "page whose token has expired", "triggers/listing.py",
           "if first and error.status", "if error.status",
           "tests/triggers/test_poller.py::test_a_page_that_is_refused_blames_no_type"),
    Mutant("unlisted-for-ever", "listing that fails for a while", "triggers/listing.py",
           "time.monotonic() + _UNLISTED_SECONDS", "float('inf')",
           "tests/triggers/test_poller.py::test_a_type_that_could_not_be_listed_is_listed_again_later"),
    Mutant("no-fallback", "listing that is throttled for long", "triggers/poller.py",
           "            share = capacity", "            share = 0",
           "tests/triggers/test_poller.py::test_while_the_listing_fails_reports_are_polled_one_by_one"),
    Mutant("create-not-listed", "thousands of waits of creates", "operators/reports.py",
           "            created_between=[min(sent, default=now), max(sent, default=now)] if own else None,\n", "",
           "tests/operators/test_create_once.py::test_the_wait_of_a_create_can_be_listed"),
    Mutant("polled-forgotten", "old reports behind newer ones", "triggers/poller.py",
           "        self._polled[report_id] = time.monotonic()\n        self._polled.move_to_end(report_id)\n", "",
           "tests/triggers/test_poller.py::test_what_was_polled_last_is_remembered_when_its_waits_come_again"),
    Mutant("reason-waited-for", "reason of a FATAL report without a permit", "report_status.py",
           "max_throttle_wait=REASON_SECONDS", "max_throttle_wait=3600",
           "tests/operators/test_adoption.py::test_what_is_only_part_of_an_error_does_not_hold_the_worker"),
    Mutant("cleared-too-late", "task that timed out and is cleared", "operators/reports.py",
           "record.save(request, waiting_since=None)", "record.save(request)",
           "tests/operators/test_adoption.py::test_a_task_that_timed_out_waits_a_whole_timeout_when_it_is_cleared"),
    Mutant("reads-gathered", "a thousand triggers of one connection", "triggers/connections.py",
           "if self._hook is not None and age < _FRESH_SECONDS:", "if False:",
           "tests/triggers/test_connections.py::test_many_triggers_read_one_connection_once"),
    Mutant("loop-s-threads", "other triggers starved of threads", "triggers/base.py",
           ", executor=_threads())", ")",
           "tests/triggers/test_connections.py::test_the_loop_s_own_threads_are_left_to_others"),
    Mutant("watch-dies", "watch whose connection is invalid for a while", "triggers/reports_done.py",
           "            except AmazonBusinessError as error:\n                # Somebody",
           "            except ZeroDivisionError as error:\n                # Somebody",
           "tests/triggers/test_reports_done.py::test_a_connection_that_is_invalid_for_a_while_ends_no_watch"),
    Mutant("template-passed", "mapped argument that brings a template", "operators/base.py",
           "            parameters.refuse_template(name, value)\n", "",
           "tests/operators/test_rendered_fields.py"),
    Mutant("transfer-held", "getReport used up, deferred transfer", "transfers/report_document_to_s3.py",
           "report = self.lookup_hook.get_report(", "report = self.hook.get_report(",
           "tests/operators/test_held_workers.py"),
    Mutant("sensor-held", "getReport used up, deferred or rescheduled sensor", "sensors/reports.py",
           "LOOKUP_SECONDS if self.deferrable or self.reschedule else self.poke_interval", "self.poke_interval",
           "tests/operators/test_held_workers.py"),
    Mutant("endless-numbers", "NaN and infinity as seconds", "client/parameters.py",
           "not 0 <= given <= MAX_SECONDS", "given < 0", "tests/operators/test_numbers.py"),
    Mutant("alarm-lost", "execution_timeout in the middle of a poll", "triggers/base.py",
           "if callable(handler) and", "if not callable(handler) and",
           "tests/operators/test_ended_tasks.py"),
    Mutant("error-unnamed", "error that does not name its report", "exceptions.py",
           "        error.report_id = error.report_id or _name(report_id)\n", "",
           "tests/test_exceptions.py"),
    Mutant("429-fails", "429 spends a retry", "operators/reports.py",
           "if not self.deferrable or error.operation is None:", "if True:",
           "tests/operators/test_create_once.py::test_a_task_that_is_refused_waits_for_its_turn_in_the_triggerer"),
    Mutant("no-permits", "calls above the limit", "client/transport.py",
           "                    queued += self._queue(operation, until, place)\n", "",
           "tests/client/test_reports.py::test_a_call_beyond_the_limit_waits_instead_of_being_refused"),
    Mutant("rate-unlearnt", "another limit than the usage plan's", "client/transport.py",
           "self._buckets[operation].learn(float(said))", "float(said)",
           "tests/client/test_reports.py::test_the_rate_that_good_answers_tell_is_kept_to"),
    Mutant("5xx-permanent", "503 with a page of HTML", "client/errors.py",
           "if 400 <= status < 500:", "if 400 <= status:",
           "tests/client/test_reports.py::test_a_transient_fault_is_waited_out[status-503-html]"),
    Mutant("body-trusted", "unreadable answer", "client/transport.py",
           "        except (ValueError, RecursionError):\n            what =",
           "        except RecursionError:\n            what =",
           "tests/client/test_reports.py::test_a_transient_fault_is_waited_out[empty]"),
    Mutant("grant-retried", "revoked grant spends retries", "exceptions.py",
           "class AuthenticationError(AmazonBusinessPermanentError)",
           "class AuthenticationError(AmazonBusinessError)",
           "tests/sensors/test_reports.py::test_a_grant_that_is_revoked_meanwhile_fails_the_wait"),
    Mutant("403-final", "access token expired, by 403", "client/errors.py",
           "return status == 403 and", "return status == 418 and",
           "tests/client/test_auth.py::test_an_expired_token_is_replaced_once_and_the_call_replayed"),
    Mutant("401-final", "access token expired, by 401", "client/errors.py",
           "    if status == 401:\n        return True\n", "",
           "tests/client/test_auth.py"),
    Mutant("poll-fails-wait", "poll that fails for a while", "triggers/subscriptions.py",
           "                connection.failed(errors[-1])",
           "                connection.notify(errors[-1], last=True)",
           "tests/triggers/test_poller.py::test_failing_looks_fail_no_wait"),
    Mutant("late-deadline", "wait that goes on after its deadline", "triggers/reports.py",
           "min(left, _SAY_SECONDS)", "_SAY_SECONDS",
           "tests/sensors/test_reports.py::test_a_timeout_can_soft_fail[deferrable]"),
    Mutant("cleanup-cancels", "triggerer restarted", "triggers/reports.py",
           "    async def wait(self)", "    cleanup = on_kill\n\n    async def wait(self)",
           "tests/triggers/test_reports.py"),
    Mutant("kill-leaves", "task ended by a person", "operators/reports.py",
           "            cancel_on_kill=cancels,\n", "",
           "tests/operators/test_create_once.py::test_killing_the_deferred_task_cancels_its_report"),
    Mutant("wait-unserialized", "triggerer restarted", "triggers/reports.py",
           '                "cancel_on_kill": self.cancel_on_kill,\n', "",
           "tests/operators/test_create_once.py::test_killing_the_deferred_task_cancels_its_report"),
    Mutant("watch-unserialized", "triggerer restarted", "triggers/reports_done.py",
           '                "since": self.since,\n', "",
           "tests/triggers/test_reports.py tests/triggers/test_reports_done.py"),
    Mutant("announced-twice", "report announced twice", "triggers/reports_done.py",
           "(report.created_time < self.mark or report.report_id in self.announced)",
           "report.created_time < self.mark",
           "tests/triggers/test_reports_done.py::test_each_report_is_announced_once_when_it_is_done"),
    Mutant("pending-forgotten", "reports that finish out of order", "triggers/reports_done.py",
           "            self.pending[report.report_id] = report.created_time", "            pass",
           "tests/triggers/test_reports_done.py"),
    Mutant("no-overlap", "listing that shows a report late", "triggers/reports_done.py",
           "min(now - _OVERLAP, newest)", "min(now, newest)",
           "tests/triggers/test_reports_done.py"),
    # Found by the state machine of the batch.
    Mutant("batch-unclaimed", "batch: process replaced before it creates", "batch/round.py",
           "            self._stint.open(sending)\n", "            pass\n",
           "tests/batch/test_state_machine.py"),
    Mutant("batch-unnoted", "batch: worker lost while it creates", "batch/round.py",
           "        self._stint.note(item)\n", "        pass\n",
           "tests/batch/test_state_machine.py"),
    Mutant("batch-log-overwritten", "batch: two processes write one log", "batch/parts.py",
           'content_type="application/gzip", **_NEW)', 'content_type="application/gzip")',
           "tests/batch/test_state_machine.py"),
    Mutant("batch-not-fenced", "batch: attempt that does not stop the one before", "batch/attempt.py",
           "        known.log.write({}, 0)\n", "        pass\n",
           "tests/batch/test_state_machine.py"),
    Mutant("batch-log-unread", "batch: log of a lost process", "batch/attempt.py",
           '            state.apply(entry["items"], entry["cursor"])', '            pass',
           "tests/batch/test_state_machine.py"),
    Mutant("batch-key-unclaimed", "batch: two documents of one name", "batch/round.py",
           "        if self._stint.head.claims:\n", "        if False:\n",
           "tests/batch/test_state_machine.py"),
    Mutant("batch-stored-unclaimed", "batch: late name of what is stored", "batch/attempt.py",
           "        claim_stored(record.parts, finished)\n", "        pass\n",
           "tests/transfers/test_reports_to_s3.py"
           "::test_a_name_that_is_known_late_does_not_replace_what_an_earlier_list_stored"),
    Mutant("batch-queue-left", "batch: wait that leaves the queue", "triggers/batch.py",
           "if self._trigger.creates or self._trigger.rotate_at is None:", "if self._trigger.rotate_at is None:",
           "tests/transfers/test_reports_to_s3.py"
           "::test_a_wait_keeps_its_place_in_the_queue_when_other_reports_wait_for_their_turn"),
    Mutant("batch-head-grows", "batch: head that names all segments", "batch/record.py",
           "            if len(head.segments) >= NAMES:", "            if False:",
           "tests/batch/test_record.py::test_the_head_does_not_grow_with_what_is_finished"),
    Mutant("batch-index-again", "batch: index of a changed list", "batch/plan.py",
           "            item.index = next_index + new\n", "            item.index = new\n",
           "tests/batch/test_state_machine.py"),
    Mutant("batch-cursor-lost", "batch: plan begun again by each process", "batch/record.py",
           "        head.cursor = state.cursor\n", "",
           "tests/batch/test_state_machine.py"),
    Mutant("batch-segments-lost", "batch: finished items forgotten", "batch/record.py",
           "head.segments += self._record", "head.segments = self._record",
           "tests/batch/test_state_machine.py"),
    Mutant("batch-counts-lost", "batch: counts that do not add up", "batch/record.py",
           "        state.counts = Counts(**head.counts)\n", "",
           "tests/batch/test_state_machine.py"),
    Mutant("batch-useless-kept", "batch: report of a previous attempt that is FATAL", "batch/round.py",
           "        if item.earlier and report.processing_status in _USELESS:", "        if False:",
           "tests/batch/test_state_machine.py"),
    Mutant("batch-own-write-refused", "batch: response of a write lost", "batch/parts.py",
           "if there is None or there.body != body:", "if True:",
           "tests/batch/test_state_machine.py"),
    Mutant("batch-event-twice", "batch: two processes for one event", "batch/attempt.py",
           "    if (head.attempt, head.stint) != (attempt, stint):", "    if False:",
           "tests/batch/test_state_machine.py"),
    Mutant("batch-retried-together", "batch: failed items not tried again", "batch/attempt.py",
           "        item.reset_for_retry()\n", "        pass\n",
           "tests/batch/test_state_machine.py"),
    Mutant("clock-trusted", "API's clock is another, creating", "durable_create.py",
           "    offset = timedelta(seconds=hook.client.clock_offset)\n", "    offset = timedelta(0)\n",
           "tests/operators/test_create_once.py::test_a_clock_of_the_api_that_is_wrong_makes_no_difference"),
    Mutant("reuse-clock-trusted", "API's clock is another, reusing", "durable_create.py",
           " + timedelta(seconds=hook.client.clock_offset)", "",
           "tests/operators/test_adoption.py::TestReuse::test_goes_by_the_clock_of_the_api"),
    Mutant("watch-clock-trusted", "API's clock is another, watching", "triggers/reports_done.py",
           "asked + timedelta(seconds=hook.client.clock_offset)", "asked",
           "tests/triggers/test_reports_done.py"),
    Mutant("short-read", "document that ends too early", "documents/download.py",
           "        if self.length is not None:\n            self._broken(",
           "        if self.length is not None:\n            return True\n            self._broken(",
           "tests/documents/test_download.py::TestResume"),
    Mutant("no-if-match", "document that changes meanwhile", "documents/download.py",
           '            headers["If-Match"] = self._etag\n', "",
           "tests/documents/test_download.py::TestResume::test_after_seven_cuts"),
    Mutant("etag-ignored", "document that changes meanwhile", "documents/download.py",
           'if _strong(response.headers.get("ETag")) != self._etag:', "if False:",
           "tests/documents/test_download.py::TestChangedDocument"),
    Mutant("not-anew", "document that changes meanwhile", "documents/to_s3.py",
           "if start == _STARTS:", "if True:",
           "tests/documents/test_download.py::TestChangedDocument"),
    Mutant("url-kept", "document's URL expired", "documents/download.py",
           '            self._broken(f"answered {status}")\n            self._renew_url()\n',
           '            self._broken(f"answered {status}")\n',
           "tests/documents/test_download.py::TestExpiredUrl"),
    Mutant("200-joined", "document host that ignores Range", "documents/download.py",
           "        self._skip(request)", "        self._request = request",
           "tests/documents/test_download.py::TestResume::test_with_a_host_that_ignores_ranges"),
    Mutant("redirected", "document host that redirects", "documents/session.py",
           "            return None\n\n    class",
           "            return super().get_redirect_target(resp)\n\n    class",
           "tests/documents/test_download.py::TestRequest::test_redirect_is_refused"),
    Mutant("private-address", "document's URL leads inside", "documents/document_url.py",
           "and _is_internal(host):", "and False:",
           "tests/documents/test_download.py::TestRequest"),
    Mutant("netrc-sent", "credentials sent to the document host", "documents/session.py",
           "    session.auth = _no_authorization\n", "",
           "tests/documents/test_download.py::TestRequest::test_is_bare"),
    Mutant("no-timeout", "document host that falls silent", "documents/download.py",
           "timeout=TIMEOUT, ", "timeout=None, ",
           "tests/documents/test_download.py::TestSecret"),
    Mutant("cut-chunk-size", "chunk whose size is cut", "documents/http_body.py",
           r"[^\r\n]*)?\r\n", r"[^\r\n]*)?(?:\r\n)?",
           "tests/documents/test_http.py::TestChunks"),
    Mutant("negative-chunk", "chunk of -5 bytes", "documents/http_body.py",
           'rb"([0-9A-Fa-f]{1,15})', 'rb"(-?[0-9A-Fa-f]{1,15})',
           "tests/documents/test_http.py::TestChunks"),
    Mutant("unknown-is-end", "rest of unknown total", "documents/download.py",
           "self._to_the_end, self._until = False, end", "self._to_the_end, self._until = True, end",
           "tests/documents/test_http.py::TestRest"),
    Mutant("416-fails", "all bytes but the end of the chunks", "documents/download.py",
           "elif status == 416 and self.position:", "elif False:",
           "tests/documents/test_http.py::TestRest"),
    Mutant("stop-unnoticed", "task that ends while a host is silent", "documents/http_request.py",
           "                self._check()\n", "                pass\n",
           "tests/documents/test_http.py::TestStop::test_is_noticed"),
    Mutant("no-time-limit", "document that comes for ever", "documents/watch.py",
           "if time.monotonic() > self._end:", "if False:",
           "tests/documents/test_http.py::TestStop::test_a_document_has_a_time_limit"),
    Mutant("first-member", "gzip of several members", "documents/gunzip.py",
           "            if not following:\n                return False",
           "            if True:\n                return False",
           "tests/documents/test_unwrap.py::TestGzip::test_has_many_members"),
    Mutant("truncated", "gzip cut short", "documents/gunzip.py",
           'raise TruncatedDocumentError("The document\'s gzip ends before its end marker")',
           'self._member = None; return b""',
           "tests/documents/test_unwrap.py::TestGzip::test_cut_short"),
    Mutant("trailing-garbage", "gzip with bytes after it", "documents/gunzip.py",
           'raise CorruptDocumentError("The document\'s gzip is damaged: other bytes follow its end")',
           "return False",
           "tests/documents/test_unwrap.py::TestGzip::test_followed_by_something_else"),
    Mutant("no-ratio", "bomb, by what it grows", "documents/streams.py",
           "if count > RATIO_FROM and", "if False and",
           "tests/documents/test_unwrap.py::TestSize::test_bomb"),
    Mutant("no-max-bytes", "bomb, by its size", "documents/streams.py",
           "if count > max_bytes:", "if False:",
           "tests/documents/test_unwrap.py::TestSize::test_gzip_above_the_limit"),
    Mutant("dots-kept", "ZIP with a path for a name", "documents/archive.py",
           'if part not in ("", ".", "..")', "if part",
           "tests/documents/test_unwrap.py::TestZip::test_hostile_names_stay_below"),
    Mutant("header-in-pieces", "gzip header with optional fields", "documents/gunzip.py",
           "for flag in (_FNAME, _FCOMMENT):", "for flag in (_FNAME,):",
           "tests/documents/test_gunzip.py::test_every_header"),
    Mutant("fhcrc-ignored", "gzip header that is damaged", "documents/gunzip.py",
           'if int.from_bytes(source.exactly(2), "little") != expected:', "if not source.exactly(2):",
           "tests/documents/test_gunzip.py::test_the_checksum_of_a_header_is_verified"),
    Mutant("entries-uncounted", "ZIP whose list has lost a file", "documents/zip_records.py",
           "    if len(records) != end.entries:", "    if False:",
           "tests/documents/test_archive.py::TestWhole::test_is_not"),
    Mutant("hidden-file", "ZIP with a file that is not listed", "documents/zip_records.py",
           'if not block or block.strip(b"\\0"):', "if not block:",
           "tests/documents/test_archive.py::TestWhole"),
    Mutant("two-ends", "ZIP with an end in its comment", "documents/zip_records.py",
           "    if len(found) > 1:", "    if False:",
           "tests/documents/test_archive.py::TestWhole::test_is_not"),
    Mutant("bound-of-each", "ZIP bomb of many files", "documents/archive.py",
           "check_size(sum(record.size for record in records), max_bytes", "check_size(0, max_bytes",
           "tests/documents/test_archive.py::TestBounds"),
    Mutant("type-believed", "gzip that is called a text", "documents/content.py",
           "    if magic:\n", "    if magic and not told:\n",
           "tests/documents/test_charset.py::test_what_is_no_text_stays_whatever_is_said_of_it"),
    Mutant("nul-recoded", "binary that is called a text", "documents/content.py",
           'return b"\\0" not in head and ', "return ",
           "tests/documents/test_charset.py::test_what_is_no_text_stays_whatever_is_said_of_it"),
    Mutant("packed-name", "gzip in a ZIP, called x.csv.gz", "documents/content.py",
           "None if packed else guessed", "guessed",
           "tests/documents/test_charset.py::test_of_an_archive_only_text_is_touched"),
    Mutant("office-opened", "Office file, which is a ZIP", "documents/to_s3.py",
           "    if archive.document_type is None:", "    if True:",
           "tests/documents/test_charset.py::test_an_office_file_is_a_document"),
    Mutant("narrow-label", "Shift_JIS that is Windows-31J", "documents/charset_names.py",
           "    found = webencodings.lookup(label)\n", "    found = None\n",
           "tests/documents/test_charset.py::test_is_stored_as_utf_8"),
    Mutant("old-big5", "text in Big5 with kana", "documents/charset.py",
           'if codec == "cp950"', 'if codec == "none"',
           "tests/documents/test_charset.py::test_big5_has_the_characters_of_eten"),
    Mutant("any-media-type", "Content-Type that is none", "documents/content.py",
           "_MEDIA_TYPE.fullmatch(told) and", "told and",
           "tests/documents/test_s3.py::test_a_content_type_that_is_none_is_not_sent_to_s3"),
    Mutant("shift-no-text", "text in ISO-2022-KR", "documents/content.py",
           'codec.startswith("iso2022")', "False",
           "tests/documents/test_charset.py::test_is_stored_as_utf_8"),
    Mutant("mark-ignored", "text with a byte order mark", "documents/charset.py",
           "codec = marked or codec_of(charset)", "codec = codec_of(charset)",
           "tests/documents/test_charset.py::test_is_stored_as_utf_8"),
    Mutant("returns-uncounted", "lines that end in CR", "documents/lines.py",
           "feeds + returns - both", "feeds",
           "tests/documents/test_rows.py"),
    Mutant("character-replaced", "byte that is no character", "documents/charset.py",
           '("strict")', '("replace")',
           "tests/documents/test_charset.py::test_what_does_not_decode_is_named_by_its_byte"),
    Mutant("upload-left", "upload that fails", "documents/multipart.py",
           "            despite_interrupts(self._abort)\n", "            pass\n",
           "tests/documents/test_s3.py::TestFailure::test_of_a_part"),
    Mutant("parts-not-awaited", "part that arrives after the abort", "documents/multipart.py",
           "        wait(self._parts)\n", "",
           "tests/documents/test_s3.py::TestKill::test_parts_on_their_way_are_waited_for"),
    Mutant("cut-completion", "S3's answer that breaks between headers", "documents/multipart.py",
           "self._complete(parts) or self._complete_again(parts)", "self._complete(parts) or 'unknown'",
           "tests/documents/test_cut_responses.py"),
    Mutant("earlier-upload-left", "worker lost during an upload", "transfers/open_uploads.py",
           "            self._open.append(upload)\n            self._save()",
           "            self._open.append(upload)",
           "tests/transfers/test_report_document_to_s3.py::test_a_retry_aborts_what_an_earlier_attempt_left_open_and_no_more"),
    Mutant("living-aborted", "upload of another task", "documents/multipart.py",
           "after - before - creations.upload_ids", "after - creations.upload_ids",
           "tests/documents/test_take_back.py::TestUploadsOfOthers"),
    Mutant("s3-kill-swallowed", "kill while S3 is silent", "documents/interrupts.py",
           "class TransferInterrupted(BaseException)", "class TransferInterrupted(Exception)",
           "tests/transfers/test_report_document_to_s3.py::test_a_task_that_is_ended_while_s3_is_silent_sends_nothing_again"),
    Mutant("kill-stops-clean-up", "kill while files are taken back", "documents/s3_objects.py",
           "despite_interrupts(self._run)", "self._run()",
           "tests/documents/test_take_back.py::TestKill::test_while_files_are_taken_back"),
    Mutant("lost-write-left", "response to a write lost", "documents/s3_objects.py",
           "            if self._is_ours(key, digest):\n                self._delete(key)\n", "",
           "tests/documents/test_take_back.py::TestLostResponses"),
    Mutant("condition-trusted", "server that ignores conditions", "documents/upload.py",
           "if not there.replace and not is_new:", "if False:",
           "tests/documents/test_servers.py::TestIgnoredConditions"),
    Mutant("conflict-final", "conflict of two writes", "documents/s3_object.py",
           "if error.status != _CONFLICT or pause is None:", "if True:",
           "tests/documents/test_servers.py::TestConflicts"),
    Mutant("checksums-forced", "server that takes no checksums", "documents/s3_objects.py",
           '!= "when_required"', '!= "never"',
           "tests/documents/test_servers.py::TestNoChecksums"),
    Mutant("etag-unchecked", "bytes damaged, without a checksum", "documents/s3_objects.py",
           "    if etag != md5.hexdigest():", "    if False:",
           "tests/documents/test_servers.py::TestNoChecksums"),
    Mutant("other-credentials", "AWS connection that is not there", "transfers/s3_connection.py",
           "return ConnectionHook(aws_conn_id=", "return AwsGenericHook(aws_conn_id=",
           "tests/transfers/test_s3_connection.py"),
    Mutant("boto3-raw", "AWS connection that makes no client", "transfers/s3_connection.py",
           "    except Exception as error:  # noqa: BLE001\n", "    except EOFError as error:\n",
           "tests/transfers/test_s3_connection.py"),
    Mutant("ca-bundle-raw", "CA bundle that is missing", "client/connection_failures.py",
           "(requests.RequestException, HTTPError, OSError, ValueError)",
           "(requests.RequestException, HTTPError, ValueError)",
           "tests/client/test_tls.py"),
    Mutant("repr-in-key", "key with the repr of an argument", "transfers/keys.py",
           "    if _REPR.search(value):", "    if False:",
           "tests/transfers/test_keys.py"),
    Mutant("slash-in-value", "value that changes a key's folders", "transfers/keys.py",
           ' or "/" in value', "",
           "tests/transfers/test_keys.py"),
    Mutant("no-crc32", "bytes damaged on their way to S3", "documents/multipart.py",
           'there.checksum(ChecksumCRC32=self._digest.crc32, ChecksumType="FULL_OBJECT")', "{}",
           "tests/documents/test_s3.py::test_the_checksum_of_the_whole_goes_out_with_the_completion"),
    Mutant("replaced", "object of another's", "documents/s3_object.py",
           '{} if self.replace else {"IfNoneMatch": "*"}', "{}",
           "tests/documents/test_s3.py::TestReplace"),
    Mutant("url-shown", "secret in a repr", "client/models.py",
           "url: str = field(repr=False)", "url: str",
           "tests/client/test_models.py::test_a_documents_url_is_not_shown"),
    Mutant("url-in-error", "secret in an error", "documents/http_request.py",
           "if isinstance(error, BrokenBodyError) else type(error).__name__", "or type(error).__name__",
           "tests/documents/test_download.py::TestSecret"),
    Mutant("token-in-context", "secret in an error", "client/transport.py",
           "        raise kind(", "            raise kind(",
           "tests/client/test_auth.py"),
    Mutant("token-unmasked", "secret in a log", "hooks/amazon_business.py",
           "mask_secret if self.mask_access_tokens else lambda _: None", "lambda _: None",
           "tests/hooks/test_amazon_business.py"),
    Mutant("fresh-token-refused", "token refused twice", "client/errors.py",
           'kind = AuthenticationError if operation == "token" else TokenRefusedError',
           "kind = AuthenticationError",
           "tests/client/test_auth.py"),
    Mutant("endpoint-kept", "endpoint that was mended", "triggers/poller.py",
           "    if may_be_outdated(error):", "    if False:",
           "tests/triggers/test_poller.py::test_an_endpoint_that_was_mended_meanwhile_is_called"),
    Mutant("missed-is-final", "report of an outdated connection", "triggers/poller.py",
           "(failure is PollFailure.DENIED or isinstance(error, ReportNotFoundError)) and not wait.missed",
           "False",
           "tests/triggers/test_poller.py::test_an_endpoint_that_was_mended_meanwhile_is_called"),
    Mutant("round-broken-off", "unknown report among others", "triggers/poller.py",
           "        outcome.outdated(connection, hook)\n", "        connection.read_again()\n",
           "tests/triggers/test_poller.py::test_a_report_that_is_not_known_delays_no_other_poll"),
    Mutant("tokens-gathered", "record that grows", "triggers/connections.py",
           "mask_access_tokens=False", "mask_access_tokens=True",
           "tests/triggers/test_reports.py::TestMaskedTokens"),
    Mutant("loop-of-its-own", "triggerer that dies (3.1)", "triggers/base.py",
           "asyncio.shield(call(*arguments))", "asyncio.to_thread(function, *arguments)",
           "tests/triggers/test_base.py"),
    Mutant("any-region", "marketplace of another region", "client/marketplaces.py",
           "if region not in (None, called):", "if False:",
           "tests/client/test_marketplaces.py::test_the_hook_refuses_creates_and_listings"),
    Mutant("any-option", "misspelt option of an invoice", "client/invoice_options.py",
           "        if name not in INVOICE_OPTIONS:", "        if False:",
           "tests/client/test_invoice_options.py::test_the_nearest_option_is_named"),
    Mutant("sandbox-lax", "sandbox laxer than Amazon", "sandbox/validation.py",
           "        invoices.check(given[\"marketplaceIds\"], options)\n", "        pass\n",
           "tests/sandbox/test_invoices.py::test_options_that_no_documentation_shows"),
    Mutant("documents-for-ever", "documents past their 30 days", "sandbox/operations.py",
           "return report.has_document and is_kept and", "return report.has_document and",
           "tests/sandbox/test_behaviour.py::test_a_document_can_be_had_for_some_days"),
    Mutant("token-429-throttles", "Login with Amazon throttles", "client/auth.py",
           "    if status == 429:\n", "    if False:\n",
           "tests/client/test_auth.py::test_a_429_of_lwa_is_waited_out_and_is_none_of_the_operation"),
    Mutant("token-unchecked", "token that fits no header", "client/auth.py",
           "answer.status_code == 200 and _fits_a_header(token)", "answer.status_code == 200 and token",
           "tests/client/test_auth.py::test_a_token_that_fits_no_header_is_an_error_that_does_not_show_it"),
    Mutant("lifetime-believed", "absurd lifetime of a token", "client/auth.py",
           "min(seconds, _LONGEST_LIFETIME)", "seconds",
           "tests/client/test_auth.py::test_a_lifetime_that_cannot_be_meant_is_the_usual_or_the_longest"),
    Mutant("retry-after-unbounded", "Retry-After of a year", "client/token_bucket.py",
           "pause = min(retry_after, bound)", "pause = retry_after",
           "tests/client/test_token_bucket.py::test_no_retry_after_stops_for_longer_than_the_bound"),
    Mutant("ledger-overwrites", "two runs that deliver at once", "batch/ledger.py",
           'else {"IfNoneMatch": "*"}\n        for', "else {}\n        for",
           "tests/batch/test_ledger.py::TestOneEntry::test_the_first_delivery_stays"),
    Mutant("ledger-replaces-any", "delivery of a quicker run replaced", "batch/ledger.py",
           '{"IfMatch": replaces.etag} if', "{} if",
           "tests/batch/test_ledger.py::TestWriters::test_only_the_one_that_was_found_is_replaced"),
    Mutant("ledger-copy-believed", "former delivery in the index", "batch/ledger_index.py",
           "if known.get(identity) == etag:", "if identity in known:",
           "tests/batch/test_ledger.py::TestIndex::test_what_was_delivered_again_is_read_from_its_entry"),
    Mutant("ledger-late-copy", "entry changed after it was listed", "batch/ledger.py",
           "if identity in known and (", "if identity in known or (",
           "tests/batch/test_ledger.py::TestIndex"
           "::test_an_entry_that_changes_between_listing_and_reading_is_no_copy"),
    Mutant("ledger-in-order", "bucket that is listed in another order", "batch/ledger.py",
           "return known, wanted - known.keys()", "return known, {each for each in wanted if each > max(etags)}",
           "tests/batch/test_ledger.py::TestIndex::test_a_bucket_that_is_listed_in_another_order"),
    Mutant("ledger-of-others", "entry of another account", "batch/delivery.py",
           "    if found != (account, identity):", "    if False:",
           "tests/batch/test_ledger.py::TestUnusableEntries::test_an_entry_of_something_else_is_refused"),
    Mutant("ledger-size-ignored", "delivered object replaced", "batch/ledger.py",
           'if there["ContentLength"] != described["bytes"]:', "if False:",
           "tests/batch/test_ledger.py::TestObjects::test_one_of_another_size_is_another_one"),
    Mutant("rebuilt-from-first", "delivery that was made again", "batch/ledger_rebuild.py",
           "= max(each,", "= min(each,",
           "tests/batch/test_ledger.py::TestRebuild::test_the_last_batch_that_stored_it_counts"),
    Mutant("row-dropped", "request without an object", "batch/table.py",
           'item.get("objects") or ({},)', 'item.get("objects") or ()',
           "tests/batch/test_table.py::TestRows::test_a_request_without_an_object_has_a_row_too"),
    Mutant("rate-believed", "absurd rate in a header", "client/token_bucket.py",
           "if slowest <= rate <= fastest:", "if rate > 0:",
           "tests/client/test_token_bucket.py::test_a_rate_that_cannot_be_meant_is_not_learned"),
    Mutant("clock-believed", "absurd Date", "client/transport.py",
           "if abs(offset) <= MAX_CLOCK_OFFSET:", "if True:",
           "tests/client/test_reports.py::test_a_clock_that_is_absurd_is_not_believed"),
    Mutant("limits-kept", "rate limits taken out of a connection", "client/token_bucket.py",
           "                self._words.pop(source, None)\n", "                pass\n",
           "tests/hooks/test_connection_fields.py::test_limits_that_a_connection_no_longer_names_no_longer_hold"),
    Mutant("endpoint-as-written", "one account, two sets of limits", "client/config.py",
           "host = host.lower().removesuffix(\".\")", "pass",
           "tests/client/test_reports.py::test_an_account_has_one_set_of_limits_however_it_is_written"),
    Mutant("place-lost", "429 after the permit", "client/transport.py",
           "bucket.join(first=True)", "bucket.join()",
           "tests/client/test_reports.py::test_a_call_that_was_refused_goes_before_those_that_joined_later"),
    Mutant("not-stopped", "killed while it waits", "client/transport.py",
           "        if self._stopped():", "        if False:",
           "tests/client/test_stopping.py::test_nothing_at_all_is_sent_by_who_is_stopped_already"),
    Mutant("netrc-read", "password of another service leaves", "client/transport.py",
           "        self._session.auth = _no_authorization\n", "",
           "tests/client/test_auth.py::test_no_netrc_adds_credentials"),
    Mutant("password-in-url", "secret in an error", "client/config.py",
           '    if "@" in _fully_unquoted(url):', "    if False:",
           "tests/hooks/test_connection_fields.py::test_a_url_with_a_secret_in_it_is_never_shown"),
    Mutant("region-shown", "secret in the wrong field", "hooks/connection.py",
           "region is {shape(region)}", "region is {region!r}",
           "tests/hooks/test_connection_fields.py::test_a_secret_in_the_wrong_field_is_never_shown"),
    Mutant("template-sent", "template that was not rendered", "client/parameters.py",
           'if "{{" in value or "{%" in value else None', "if False else None",
           "tests/client/test_parameters.py::test_every_parameter_refuses_a_template"),
    Mutant("none-sent", "option without a value", "client/parameters.py",
           "    if text in _RENDERED_MISSING:", "    if False:",
           "tests/client/test_parameters.py::test_an_option_without_a_value_is_refused_by_its_name"),
    Mutant("digits-lost", "id that is a float", "client/parameters.py",
           " or value + 1 != value)", " or True)",
           "tests/client/test_parameters.py::test_an_id_that_is_none_is_refused_by_its_name"),
]
# fmt: on


class Copy:
    """A copy of the repository's files, in which tests import the copied package.

    :raises RuntimeError: they would import another one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # A compiled file counts as fresh by second and size, and a mutant may have those of its original.
        self._environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        listed = _output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT)
        for name in listed.rstrip("\0").split("\0"):
            # One that is deleted stays listed until that is committed.
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)
        # From elsewhere, as tests start some processes; the editable install must not be found first there either.
        asked = [sys.executable, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)"]
        imported = _output(asked, cwd=folder.parent, env=self._environment).strip()
        if not Path(imported).is_relative_to(folder):
            raise RuntimeError(f"The tests would import {imported}, so that they would meet no mutant")

    def first_failure(self, tests: list[str]) -> str | None:
        """Run tests up to the first that fails, and return its id, None where all pass.

        :raises RuntimeError: they could not be run.
        """
        options = ["-q", "-x", "-rf", "-p", "no:cacheprovider", f"--timeout={_TIMEOUT_SECONDS}"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == _PASSED:
            return None
        failed = [line.removeprefix("FAILED ") for line in done.stdout.splitlines() if line.startswith("FAILED ")]
        # An error of a fixture, such as a server that did not start, is no finding.
        if done.returncode != _FAILED or not failed:
            raise RuntimeError(f"pytest ended with {done.returncode} for {tests}:\n{done.stdout}{done.stderr}")
        return failed[0].split(" - ")[0]

    def first_failure_with(self, mutant: Mutant) -> str | None:
        """Make the mistake, run the tests that should notice, and take it back."""
        path = self._folder / PACKAGE / mutant.file
        original = path.read_text()
        path.write_text(mutant.applied(original))
        try:
            return self.first_failure(mutant.tests.split())
        finally:
            path.write_text(original)


def main(names: list[str]) -> int:
    """Try the mutants of these names, or all; return 1 if no test has noticed one of them."""
    known = {mutant.name: mutant for mutant in MUTANTS}
    if unknown := set(names) - set(known):
        sys.exit(f"There is no mutant {', '.join(sorted(unknown))}, but there are: {', '.join(known)}")
    mutants = [known[name] for name in names] or MUTANTS
    survived = False
    with tempfile.TemporaryDirectory(prefix="amzbiz-mutants-") as folder:
        copy = Copy(Path(folder).resolve())
        if failed := copy.first_failure(sorted({test for mutant in mutants for test in mutant.tests.split()})):
            sys.exit(f"{failed} fails without any mutant, so that it proves nothing")
        for mutant in mutants:
            failed = copy.first_failure_with(mutant)
            survived |= failed is None
            found = f"found by {failed}" if failed else "NOT FOUND"
            print(f"{mutant.name:21} {mutant.fault:39} {found}", flush=True)
    return int(survived)


def _output(command: list[str], *, cwd: Path, env: dict[str, str] | None = None) -> str:
    return subprocess.run(command, cwd=cwd, env=env, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
