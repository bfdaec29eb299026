"""A run of the feed: begun, planned, and finished once the documents are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.feed.collect import Api, collect
from airflow_provider_amzbiz.feed.documents import Rules
from airflow_provider_amzbiz.feed.finish import Finish, Tables
from airflow_provider_amzbiz.feed.keys import check_key
from airflow_provider_amzbiz.feed.lines import iso
from airflow_provider_amzbiz.feed.names import DOCUMENT_TYPES
from airflow_provider_amzbiz.feed.plan import Plan, carry_over, label_of, write_plan
from airflow_provider_amzbiz.feed.requests import Deliveries, describe_documents, find_delivered
from airflow_provider_amzbiz.feed.rows import Outcome
from airflow_provider_amzbiz.feed.spool import Spool
from airflow_provider_amzbiz.feed.state import Cursor, FeedState, RunFolder
from airflow_provider_amzbiz.feed.window import Time, Window, parsed, window_of

DEFAULT_OVERLAP = timedelta(days=3)
DEFAULT_OPEN_FOR = timedelta(days=45)


@dataclass(frozen=True)
class FeedSettings:
    """What a feed is to bring.

    :ivar key: template of the documents' keys.
    :ivar overlap: a run begins so long before the end of the last one, because rows appear late and are amended.
    :ivar open_for: how long a line without a document is asked for.
    :ivar bucket: where the documents go; None where nothing else shares the ledger.
    :ivar include_personal_data: keep names and e-mail addresses of buyers and payers.
    :raises InvalidParameterError: one of them is not allowed.
    """

    key: str
    rules: Rules = field(default_factory=Rules)
    overlap: timedelta = DEFAULT_OVERLAP
    open_for: timedelta = DEFAULT_OPEN_FOR
    include_personal_data: bool = False
    bucket: str | None = None

    @property
    def feed(self) -> dict[str, Any]:
        """What tells this feed from another one that uses its ledger by mistake, JSON-safe."""
        return {"document_types": sorted(self.rules.document_types), "bucket": self.bucket}

    def __post_init__(self) -> None:
        check_key(self.key)
        types = self.rules.document_types
        if not types or set(types) - set(DOCUMENT_TYPES) or len(set(types)) < len(types):
            raise InvalidParameterError(
                f"document_types is {list(types)!r}, but must have one or more of {', '.join(DOCUMENT_TYPES)}, "
                "each once"
            )
        for name in ("overlap", "open_for"):
            value = getattr(self, name)
            if not isinstance(value, timedelta) or value < timedelta():
                raise InvalidParameterError(f"{name} is {value!r}, but must be a timedelta of 0 or more")


class InvoiceFeed:
    """All invoices that became available, each once.

    :param clock: now, aware; such as the API's own clock.
    """

    def __init__(
        self,
        state: FeedState,
        settings: FeedSettings,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._state = state
        self._settings = settings
        self._clock = clock

    def begin(
        self,
        task: Mapping[str, Any],
        *,
        feed_start: Time = None,
        feed_end: Time = None,
        first_start: Time = None,
        frozen: Mapping[str, Any] | None = None,
    ) -> FeedRun:
        """Begin a run, or continue the task's unfinished one, whose window counts then.

        :param task: whose run it is: ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
        :param first_start: where a feed's first run begins: the start of the data interval. Until a run has
            succeeded, the earliest start of all that began counts.
        :param frozen: JSON-safe values that the run keeps, whatever a retry gives.
        :raises InvalidParameterError: the window is empty, nothing says where to begin, or the cursor is that of
            another feed.
        :raises FeedStateError: the state is damaged.
        """
        folder = self._state.run(label_of(task))
        found = folder.read("begin")
        if found is None:
            cursor, _ = self._state.read_cursor()
            if feed_start is None:
                _check_same_feed(cursor, self._settings.feed)
            window = window_of(
                feed_start,
                feed_end,
                cursor=parsed(cursor.feed_end),
                first_start=first_start,
                begun=parsed(cursor.feed_start),
                overlap=self._settings.overlap,
                clock=self._clock,
            )
            content: dict[str, Any] = {
                "task": dict(task),
                "begun_at": iso(self._clock()),
                "feed_start": iso(window.start),
                "feed_end": iso(window.end),
                "open": cursor.open,
                "feed": self._settings.feed,
                "frozen": dict(frozen or {}),
            }
            self._state.begin_at(content["feed_start"])
            found = folder.write_once("begin", content)
        return FeedRun(self._state, self._settings, folder, *found)

    def resume(self, run: str) -> FeedRun:
        """Continue a run.

        :param run: as :attr:`.FeedRun.name` gives it.
        :raises FeedStateError: it is missing.
        """
        folder = self._state.existing(run)
        return FeedRun(self._state, self._settings, folder, *folder.must_read("begin"))


class FeedRun:
    """One run.

    :ivar name: to :meth:`.InvoiceFeed.resume` it by.
    :ivar window: of feed dates.
    :ivar frozen: as it was given to :meth:`.InvoiceFeed.begin`.
    """

    def __init__(
        self,
        state: FeedState,
        settings: FeedSettings,
        folder: RunFolder,
        begun: Mapping[str, Any],
        stored_at: datetime,
    ) -> None:
        self._state = state
        self._settings = settings
        self._folder = folder
        self._begun = begun
        self._stored_at = stored_at
        self.name = folder.name
        self.frozen: Mapping[str, Any] = begun["frozen"]
        self.window = Window(
            datetime.fromisoformat(begun["feed_start"]), datetime.fromisoformat(begun["feed_end"])
        )

    @property
    def generation(self) -> int:
        """How often the task has run, from 1 on: a cleared task whose run had succeeded begins another one."""
        return int(self.name.rpartition("/")[2])

    def plan(
        self, api: Api, deliveries: Deliveries | None = None, *, stopped: Callable[[], None] = lambda: None
    ) -> Plan:
        """Read the window and freeze what is found, or return what was frozen before.

        :param deliveries: what was delivered before; None asks for every document.
        :param stopped: called between steps; raises where the run is to end.
        :raises ApiError: the API did not give it; nothing is frozen then.
        """
        found = self._folder.read("plan")
        if found is not None:
            return Plan(self._folder, found[0])
        settings = self._settings
        with Spool() as spool:
            carry_over(
                spool,
                self._state.read_lines(self._begun["open"]),
                include_personal_data=settings.include_personal_data,
            )
            collect(
                api,
                spool,
                self.window.start,
                self.window.end,
                settings.rules,
                include_personal_data=settings.include_personal_data,
                stopped=stopped,
            )
            documents = list(find_delivered(describe_documents(spool, settings.rules), deliveries))
            content = write_plan(self._folder, self._state, spool, documents, api, settings.key)
        return Plan(self._folder, content)

    def planned(self) -> Plan:
        """Return what was frozen before.

        :raises FeedStateError: nothing was.
        """
        return Plan(self._folder, self._folder.must_read("plan")[0])

    def finish(self, plan: Plan, outcomes: Mapping[int, Outcome], tables: Tables | None = None) -> dict[str, Any]:
        """Write the tables, and then advance the cursor. It may run any number of times, with the same result.

        :param outcomes: by the number of the request in the plan, for all that were due.
        :return: ``requested``, ``landed``, ``already_delivered``, ``failed``, ``skipped``, ``open_items``,
            ``bytes``, ``account`` and ``tables``.
        """
        finish = Finish(
            self._state,
            self._folder,
            plan,
            outcomes,
            begun=self._begun,
            began_at=self._stored_at,
            overlap=self._settings.overlap,
            open_for=self._settings.open_for,
        )
        result = finish.write_tables(tables)
        latest = max(filter(None, (self._stored_at, finish.latest_feed_date)))
        finish.advance(self.window, latest)
        return self._folder.write_once("done", {"result": result})[0]["result"]  # type: ignore[no-any-return]


def _check_same_feed(cursor: Cursor, feed: Mapping[str, Any]) -> None:
    """Refuse a cursor of another feed: what that one has passed, this one would never read.

    :raises InvalidParameterError: it is another feed's.
    """
    known = cursor.feed or feed
    changed = [name for name in feed if known.get(name) != feed[name]]
    if changed:
        were, are = ({name: each.get(name) for name in changed} for each in (known, feed))
        raise InvalidParameterError(
            f"The feed of this ledger has {were} up to {cursor.feed_end}, and this task has {are}: give a second "
            "feed a ledger of its own. If this feed is to change, set feed_start for one run, to the feed date "
            "from which on it is to have all documents"
        )
