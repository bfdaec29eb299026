"""What can go wrong with a batch as a whole, or with one of its items."""

from __future__ import annotations


class RecordError(Exception):
    """The record of a batch cannot be used; a retry finds the same."""


class RecordTakenError(RecordError):
    """Another process continues the batch, so this one must stop."""


class RecordMissingError(RecordError):
    """The record, or a part of it, is missing although the batch has begun."""


class RecordDamagedError(RecordError):
    """The record cannot be read."""


class RecordForeignError(RecordError):
    """The record is that of another task, run or mapped task."""


class RecordAccountError(RecordError):
    """The connection is another account's than the one that the batch began with."""


class RecordNewerError(RecordError):
    """Another version of this provider has written the record."""


class ThrottledCall(Exception):  # noqa: N818 - a signal between the round and its actions, no error of a user's
    """A call was not made, because the account's limit is used up (429).

    :ivar operation: the API's operation id, such as ``createReport``; None where it is not known.
    :ivar nothing_sent: whether no request for a report was sent either, so that there is none.
    """

    def __init__(self, operation: str | None, *, nothing_sent: bool) -> None:
        super().__init__(operation)
        self.operation = operation
        self.nothing_sent = nothing_sent


class NothingSent(Exception):  # noqa: N818 - the same
    """A report was not created for a reason that concerns all, which is :attr:`reason`."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class ItemError(Exception):
    """One item failed; the others are not concerned.

    :ivar permanent: whether doing the same again cannot succeed.
    :ivar gone: whether Amazon no longer has the report, or its document.
    :ivar damaged: whether what Amazon delivers is damaged.
    """

    def __init__(
        self, message: str, *, permanent: bool = False, gone: bool = False, damaged: bool = False
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.gone = gone
        self.damaged = damaged


class KeyTakenError(ItemError):
    """Another document of the batch has the key; nothing was overwritten."""

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)
