"""What all operators share: the connection, the checks of rendered fields, and the wait for a permit."""

from __future__ import annotations

import time
import uuid
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.compat import BaseOperator, conf
from airflow_provider_amzbiz.documents.units import utc
from airflow_provider_amzbiz.exceptions import (
    ThrottledError,
    about_report,
    translated_errors,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.links import ReportStatusesLink
from airflow_provider_amzbiz.triggers.base import InlineWait
from airflow_provider_amzbiz.triggers.events import PermitGranted, read_event
from airflow_provider_amzbiz.triggers.reports import BACKSTOP

if TYPE_CHECKING:
    from airflow_provider_amzbiz.compat import BaseOperatorLink, Context
    from airflow_provider_amzbiz.triggers.base import WaitingTrigger

# Seconds that a deferrable task waits for permits on its worker while it looks up a report; then it defers.
LOOKUP_SECONDS = 15.0
# The same for a call that creates nothing and fetches no document. Where nobody else queues, its permit comes
# within ten seconds, and a deferral takes longer.
BRIEF_SECONDS = 15.0
# The properties that keep a hook.
_HOOKS = ("hook", "lookup_hook", "_nonblocking_hook")
# A natively rendered template (render_template_as_native_obj) may turn these into numbers.
_IDS = ("report_id", "report_document_id")


def check_rendered(task: Any) -> None:
    """Check the rendered fields of a task before it does anything, and turn ids into strings.

    :param task: an operator or sensor.
    :raises InvalidInputError: a field still holds a template, or an id is not valid.
    """
    about = about_report(getattr(task, "report_id", None), getattr(task, "report_type", None))
    with about, translated_errors():
        for name in task.template_fields:
            value = getattr(task, name)
            parameters.refuse_template(name, value)
            if name in _IDS and value is not None:
                setattr(task, name, parameters.required_id(name, value))


def log_deferral(log: Any, what: str, until: float) -> None:
    """Log what a task waits for in the triggerer; Airflow only logs that it does.

    :param until: Unix time at which the wait ends at the latest.
    """
    log.info("Waiting in the triggerer for %s, until %s at the latest", what, utc(until))


class AmazonBusinessOperator(BaseOperator):
    """An operator that calls the API through a connection.

    :param amazon_business_conn_id: the connection, of type ``amazon_business``; by default
        ``amazon_business_default``. (templated)
    :param max_throttle_wait: seconds, or a timedelta, that one call may wait on the worker for its permit under
        the account's limits before the task fails with :class:`.ThrottledError`, which Airflow retries; by default
        3600. In deferrable mode, calls wait in the triggerer instead, for up to seven days. (not templated)
    """

    template_fields: Sequence[str] = ("amazon_business_conn_id",)
    operator_extra_links: Collection[BaseOperatorLink] = (ReportStatusesLink(),)
    ui_color = "#f9d58a"
    # Whether Airflow is ending the task.
    _killed = False
    # The wait in this process, while there is one.
    _inline_wait: InlineWait | None = None

    def __init__(
        self,
        *,
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
        max_throttle_wait: timedelta | float = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.amazon_business_conn_id = amazon_business_conn_id
        with translated_errors():
            self.max_throttle_wait = parameters.seconds("max_throttle_wait", max_throttle_wait, zero=True)

    @cached_property
    def hook(self) -> AmazonBusinessHook:
        """The hook of the connection."""
        return self._hook(max_throttle_wait=self.max_throttle_wait)

    def _hook(self, *, max_throttle_wait: float, **arguments: Any) -> AmazonBusinessHook:
        return AmazonBusinessHook(
            self.amazon_business_conn_id,
            max_throttle_wait=max_throttle_wait,
            stopped=lambda: self._killed,
            **arguments,
        )

    def _forget_hooks(self) -> None:
        """Have the next calls read the connection again, because it has changed."""
        for name in _HOOKS:
            self.__dict__.pop(name, None)

    def run_inline(self, trigger: WaitingTrigger) -> dict[str, Any] | None:
        """Run a trigger's wait in this process, and return the event that a triggerer would send.

        :return: the event; None where the task was ended first.
        """
        self._inline_wait = InlineWait()
        if self._killed:
            self._inline_wait.interrupt()
        try:
            return self._inline_wait.run(trigger)
        except BaseException:
            # Airflow's execution_timeout raises here as well, and calls on_kill afterwards.
            if not self._killed:
                raise
            return None
        finally:
            self._inline_wait = None

    def on_kill(self) -> None:
        """End waits with an error that Airflow retries; a call in progress is finished first."""
        self._killed = True
        if self._inline_wait is not None:
            self._inline_wait.interrupt()


class QueueingOperator(AmazonBusinessOperator):
    """An operator whose calls wait for their permits in the triggerer, where that holds no worker slot.

    A task on its own calls at once, and queues when it is throttled. The tasks of a mapped operator queue first:
    so many calls at once would mostly be throttled, and delay the tasks already queued.

    :param deferrable: wait in the triggerer; by default Airflow's ``[operators] default_deferrable``. (not
        templated)
    """

    def __init__(
        self,
        *,
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
        max_throttle_wait: timedelta | float = 3600.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            amazon_business_conn_id=amazon_business_conn_id, max_throttle_wait=max_throttle_wait, **kwargs
        )
        self.deferrable = deferrable

    @cached_property
    def _nonblocking_hook(self) -> AmazonBusinessHook:
        """The hook for the scarce call: in deferrable mode it does not wait for a permit."""
        return self._hook(max_throttle_wait=0) if self.deferrable else self.hook

    @cached_property
    def lookup_hook(self) -> AmazonBusinessHook:
        """The hook for the calls before that: in deferrable mode it waits for permits for some seconds only."""
        if not self.deferrable:
            return self.hook
        return self._hook(max_throttle_wait=LOOKUP_SECONDS, retry_for=LOOKUP_SECONDS)

    def _should_queue_first(self, context: Context) -> bool:
        """Return whether the task queues for its permit before it calls."""
        ti: Any = context.get("ti")
        return self.deferrable and getattr(ti, "map_index", -1) >= 0

    def _expect_others(self, context: Context, operation: str) -> None:
        """Start without a burst where others have probably used it: in a mapped task, and in a retry."""
        ti: Any = context.get("ti")
        if getattr(ti, "map_index", -1) >= 0 or getattr(ti, "try_number", 1) > 1:
            self.hook.token_bucket(operation).expect_others()

    def _defer_for_permits(
        self,
        operation: str,
        *,
        throttled: ThrottledError | None = None,
        event: PermitGranted | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> NoReturn:
        """Defer until there is a permit for this task; ``execute_complete`` continues then.

        :param throttled: the error of the call that was throttled; None where the task has not called yet.
        :param event: the event that granted the permit of that call, if there was one.
        :param state: what the task needs to continue, returned in the event; JSON-safe, and without secrets.
        :raises ThrottledError: the task has waited for seven days.
        """
        from airflow_provider_amzbiz.triggers.permits import MAX_QUEUE_SECONDS, PermitTrigger

        # Fail here if there is no connection: the triggerer would wait for it.
        self.hook.get_conn()
        now = time.time()
        since = event.since if event else now
        if throttled and now - since > MAX_QUEUE_SECONDS:
            raise throttled
        if throttled:
            self.log.info("%s", throttled)
        log_deferral(self.log, f"a permit of {operation}", since + MAX_QUEUE_SECONDS)
        self.defer(
            trigger=PermitTrigger(
                operation=operation,
                amazon_business_conn_id=self.amazon_business_conn_id,
                since=since,
                throttled_at=now if throttled else None,
                # Without a response, it was this worker's own limit that stopped the call.
                had_permit=(
                    throttled is not None
                    and throttled.status is not None
                    and event is not None
                    and event.operation == operation
                ),
                state=dict(state or {}),
                queue_name=uuid.uuid4().hex,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=MAX_QUEUE_SECONDS + BACKSTOP),
        )
        raise AssertionError("defer raises")

    def _apply_permits(self, event: PermitGranted) -> None:
        """Give the hook the permits that the triggerer queued for."""
        scarce = event.operation in ("createReport", "getReportDocument")
        hook = self._nonblocking_hook if scarce else self.lookup_hook
        hook.grant(event.operation, event.permits)


class BrieflyWaitingOperator(QueueingOperator):
    """An operator whose calls change nothing that a second call would not: it cancels or reads.

    In deferrable mode, a call waits on the worker for some seconds, and then in the triggerer. Nothing has begun
    meanwhile: a kill has nothing to cancel, and a resumed task uses what its templates render then.
    """

    # The operation for whose permit a mapped task queues before it calls; None where there are permits enough.
    queues_first_for: str | None = None

    def execute(self, context: Context) -> Any:
        """Call, or wait for the permit in the triggerer."""
        check_rendered(self)
        self._load_progress({})
        if self.queues_first_for is not None and self._should_queue_first(context):
            self._check()
            self._defer_for_permits(self.queues_first_for)
        return self._call_or_defer(context, None)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Call, now that the triggerer has acquired the permit."""
        check_rendered(self)
        granted = read_event(event, PermitGranted)
        self.brief_hook.grant(granted.operation, granted.permits)
        self._load_progress(granted.state)
        return self._call_or_defer(context, granted)

    @cached_property
    def brief_hook(self) -> AmazonBusinessHook:
        """The hook for the calls: in deferrable mode it waits for permits for some seconds only."""
        return self._hook(max_throttle_wait=BRIEF_SECONDS) if self.deferrable else self.hook

    def _call_or_defer(self, context: Context, event: PermitGranted | None) -> Any:
        try:
            return self._call(context)
        except ThrottledError as error:
            progress = self._progress()
            if not self.deferrable or error.operation is None or progress is None:
                raise
            self._defer_for_permits(error.operation, throttled=error, event=event, state=progress)

    def _check(self) -> None:
        """Check the parameters of the call, without calling."""

    @abstractmethod
    def _call(self, context: Context) -> Any:
        """Make the calls with :attr:`brief_hook`, and return the task's result.

        :raises ThrottledError: there was no permit in time.
        """

    def _progress(self) -> Mapping[str, Any] | None:
        """Return what a resumed task needs to continue; None where it must stay on its worker."""
        return {}

    def _load_progress(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`_progress` returned before the deferral; empty where there was none.

        :raises AmazonBusinessError: it is damaged.
        """
