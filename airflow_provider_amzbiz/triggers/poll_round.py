"""What the polls of one round mean for each connection and each subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_amzbiz.exceptions import AmazonBusinessError, ThrottledError

if TYPE_CHECKING:
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
    from airflow_provider_amzbiz.triggers.polled_connections import PolledConnection
    from airflow_provider_amzbiz.triggers.subscriptions import Subscription

# If so many polls of a round fail before one has worked, the API is at fault and not a report.
_MAX_FAILURES = 3


class PollRound:
    """Collects the polls of one round; only what fails for all reports of a connection concerns the connection."""

    def __init__(self) -> None:
        self._worked: set[PolledConnection] = set()
        self._failed: dict[PolledConnection, list[AmazonBusinessError]] = {}
        self._rejected: dict[PolledConnection, tuple[AmazonBusinessHook, AmazonBusinessError]] = {}
        self._failed_subscriptions: list[tuple[PolledConnection, Subscription, AmazonBusinessError]] = []
        self._outdated: dict[PolledConnection, AmazonBusinessHook] = {}

    def worked(self, connection: PolledConnection) -> None:
        """Record a response."""
        self._worked.add(connection)

    def failed(
        self, connection: PolledConnection, error: AmazonBusinessError, subscription: Subscription | None = None
    ) -> None:
        """Record a failure that a later poll may not have."""
        self._failed.setdefault(connection, []).append(error)
        if subscription is not None:
            self._failed_subscriptions.append((connection, subscription, error))

    def rejected(self, connection: PolledConnection, hook: AmazonBusinessHook, error: AmazonBusinessError) -> None:
        """Record that the credentials were rejected."""
        self._rejected.setdefault(connection, (hook, error))

    def outdated(self, connection: PolledConnection, hook: AmazonBusinessHook) -> None:
        """Record that the connection may have been corrected since it was read."""
        self._outdated[connection] = hook

    def is_finished(self, connection: PolledConnection) -> bool:
        """Return whether further polls through this connection are useless in this round."""
        failed = self._failed.get(connection, [])
        if connection in self._rejected or any(_concerns_all(error) for error in failed):
            return True
        return len(failed) >= _MAX_FAILURES and connection not in self._worked

    def apply(self) -> None:
        """Notify the connections and subscriptions of what the round has shown."""
        for connection, hook in self._outdated.items():
            # Only now: the other reports of this round were still polled with the old hook.
            if connection.hook is hook:
                connection.read_again()
        for connection, (hook, error) in self._rejected.items():
            connection.reject(hook, error)
        for connection in self._worked - set(self._rejected):
            connection.worked()
        for connection, errors in self._failed.items():
            if connection not in self._worked and connection not in self._rejected:
                connection.failed(errors[-1])
        for connection, subscription, error in self._failed_subscriptions:
            if connection in self._worked and not isinstance(error, ThrottledError):
                subscription.failed(error)


def _concerns_all(error: AmazonBusinessError) -> bool:
    return isinstance(error, ThrottledError) or error.operation == "token"
