"""A task that is ended during a transfer: noticed everywhere, without preventing the clean-up."""

from __future__ import annotations

from collections.abc import Callable

# Maximum interrupts of one clean-up. Airflow sends a few before it kills the process.
_MAX_INTERRUPTS = 10


class TransferInterrupted(BaseException):
    """The task is ended; raised in the thread of the transfer, wherever that is.

    It is no ``Exception``: botocore treats each ``Exception`` during a request as a broken connection, and its
    retry modes ``standard`` and ``adaptive`` then send the request again.
    """


def despite_interrupts(clean_up: Callable[[], None]) -> None:
    """Clean up, and repeat that each time the end of the task, an exception at any moment, interrupts it.

    :param clean_up: may run several times.
    :raises BaseException: the last interrupt, after the clean-up is complete.
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
