"""What a person has to know when a task fails, and two ways to send it."""

from __future__ import annotations

from typing import Any

import requests
from airflow.providers.common.compat.sdk import BaseHook, BaseNotifier

from airflow_provider_amzbiz.exceptions import AmazonBusinessError, AmazonBusinessPermanentError

# A connection whose host is the address of a webhook, and whose password is the secret end of that address.
WEBHOOK = "alerts_webhook"


def message(context: Any) -> str:
    """Return what failed where, with the ids that Amazon's support asks for."""
    ti, error = context["ti"], context.get("exception")
    lines = [f"{ti.dag_id}.{ti.task_id} failed, run {ti.run_id}, attempt {ti.try_number}"]
    if isinstance(error, AmazonBusinessError):
        facts = {
            "Report": error.report_id,
            "Report type": error.report_type,
            "Amazon's reason": error.reason,
            "Operation": error.operation,
            "Status": error.status,
            "Request id": error.request_id,
        }
        lines += [f"{name}: {str(value)[:500]}" for name, value in facts.items() if value is not None]
        lines.append(f"{type(error).__name__}: {str(error)[:1000]}")
        if isinstance(error, AmazonBusinessPermanentError):
            lines.append("A retry does not help.")
    elif isinstance(error, BaseException):
        # Only the provider's own errors are known to contain no secret.
        lines.append(type(error).__name__)
    else:
        # Airflow's scheduler has found the task without a process, or knows no reason.
        lines.append("The worker was lost, or the error is unknown.")
    return "\n".join(lines)


def send(text: str) -> None:
    """Post a text to the webhook, in the form that Slack, Mattermost and others read."""
    connection = BaseHook.get_connection(WEBHOOK)
    requests.post(f"{connection.host}/{connection.password}", json={"text": text}, timeout=10).raise_for_status()


def alert(context: Any) -> None:
    """Send the message; for ``on_failure_callback``."""
    send(message(context))


class AmazonBusinessNotifier(BaseNotifier):
    """Sends the message with a line of your own, which is a template.

    :param note: such as whom to call. (templated)
    """

    template_fields = ("note",)

    def __init__(self, note: str = "") -> None:
        super().__init__()
        self.note = note

    def notify(self, context: Any) -> None:
        """Send the message."""
        send("\n".join(filter(None, [message(context), self.note])))
