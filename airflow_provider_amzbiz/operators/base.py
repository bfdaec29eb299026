"""What all operators share: the connection, the checks of rendered fields, and the queue for a scarce call."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.exceptions import (
    ThrottledError,
    about_report,
    translated_errors,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.links import ReportStatusesLink
from airflow_provider_amzbiz.triggers.reports import BACKSTOP

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

# Seconds that looking up a report may wait for permits on the worker, before the task waits for them deferred.
LOOKUP_SECONDS = 15.0
# Fields that a natively rendered template may have made numbers.
_IDS = ("report_id", "report_document_id")


def check_rendered(task: Any) -> None:
    """Check the rendered fields of a task before it does anything, and make ids strings.

    :param task: an operator or sensor.
    :raises InvalidInputError: a field still holds a template, or an id is none.
    """
    about = about_report(getattr(task, "report_id", None), getattr(task, "report_type", None))
    with about, translated_errors():
        for name in task.template_fields:
            value = getattr(task, name)
            parameters.refuse_template(name, value)
            if name in _IDS and value is not None:
                setattr(task, name, parameters.required_id(name, value))


class AmazonBusinessOperator(BaseOperator):
    """An operator that calls the API through a connection.

    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    :param max_throttle_wait: seconds that one call may wait on the worker for its permit under the account's
        limits before the task fails with :class:`.ThrottledError`, which Airflow retries. In deferrable mode the
        calls that all reports need wait in the triggerer instead, for up to seven days.
    """

    template_fields: Sequence[str] = ("amazon_business_conn_id",)
    operator_extra_links: Collection[BaseOperatorLink] = (ReportStatusesLink(),)
    ui_color = "#f9d58a"
    # Whether Airflow has told the task to end.
    _killed = False

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

    def on_kill(self) -> None:
        """Have calls that wait end, with an error that Airflow retries; one under way is finished."""
        self._killed = True


class QueueingOperator(AmazonBusinessOperator):
    """An operator whose scarce calls wait for their permits in the triggerer, where that holds no worker slot.

    A task on its own calls at once, and queues when it is throttled. The tasks of a mapped operator queue first:
    so many calls at once would mostly be throttled, and delay the tasks already queued.

    :param deferrable: wait in the triggerer. By default Airflow's ``[operators] default_deferrable``.
    """

    def __init__(
        self,
        *,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable

    @cached_property
    def _nonblocking_hook(self) -> AmazonBusinessHook:
        """The hook for the scarce call: in deferrable mode it does not wait for a permit."""
        return self._hook(max_throttle_wait=0) if self.deferrable else self.hook

    @cached_property
    def lookup_hook(self) -> AmazonBusinessHook:
        """The hook for what precedes it: in deferrable mode it waits for permits for some seconds only."""
        if not self.deferrable:
            return self.hook
        return self._hook(max_throttle_wait=LOOKUP_SECONDS, retry_for=LOOKUP_SECONDS)

    def _should_queue_first(self, context: Context) -> bool:
        """Whether the task asks for its permit before it calls."""
        ti: Any = context.get("ti")
        return self.deferrable and getattr(ti, "map_index", -1) >= 0

    def _defer_for_permits(
        self,
        operation: str,
        *,
        refused: ThrottledError | None = None,
        event: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> NoReturn:
        """Defer until there is a permit for this task; ``execute_complete`` continues then.

        :param refused: why the task has to wait, if it has called.
        :param event: what told it that there was a permit, if that was so.
        :param state: what the task has to know then, as the event's ``state``; JSON-safe, and without secrets.
        """
        from airflow_provider_amzbiz.triggers.permits import MAX_QUEUE_SECONDS, PermitTrigger

        # A connection that is not there would be waited for in the triggerer.
        self.hook.get_conn()
        now = time.time()
        since = event["since"] if event else now
        if refused and now - since > MAX_QUEUE_SECONDS:
            raise refused
        if refused:
            self.log.info("%s. The task waits for its permit in the triggerer", refused)
        self.defer(
            trigger=PermitTrigger(
                operation=operation,
                amazon_business_conn_id=self.amazon_business_conn_id,
                since=since,
                refused_at=now if refused else None,
                permitted=event is not None and event.get("operation") == operation,
                state=dict(state or {}),
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=MAX_QUEUE_SECONDS + BACKSTOP),
        )
        raise AssertionError("defer raises")

    def _apply_permits(self, event: Mapping[str, Any]) -> None:
        """Take the permits that the triggerer queued for."""
        scarce = event["operation"] in ("createReport", "getReportDocument")
        hook = self._nonblocking_hook if scarce else self.lookup_hook
        hook.grant(event["operation"], event["permits"])
