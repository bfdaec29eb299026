"""A task that is ended while it moves a document: noticed everywhere, and never in the way of cleaning up."""

from __future__ import annotations

from collections.abc import Callable

# Interrupts that one clean-up survives. Airflow sends a few before it kills the process.
_MAX_INTERRUPTS = 10


class TransferInterrupted(BaseException):
    """The task is ended; raised in the thread that moves the document, wherever that is.

    It is no ``Exception``: botocore takes each of those that is raised while it sends for a broken connection, and
    its retry modes ``standard`` and ``adaptive`` then send the request again.
    """


def despite_interrupts(clean_up: Callable[[], None]) -> None:
    """Clean up, and again as often as the end of the task, an exception at any moment, breaks that off.

    :param clean_up: may run several times.
    :raises BaseException: the last interrupt, once the clean-up is complete.
    """
    interrupt: BaseException | None = None
    for _ in range(_MAX_INTERRUPTS):
        try:
            clean_up()
            break
        except BaseException as error:  # noqa: BLE001 - raised below
            interrupt = error
    if interrupt is not None:
        raise interrupt
