"""The end of a process, for tests of what the next one does."""

from __future__ import annotations


class ProcessLost(BaseException):
    """Stands for a SIGKILL or a lost machine: no code of the process runs after it."""


def lost_at(store, method):
    """Make a call of a task state store the moment at which the process is lost."""

    def lose(*_, **__):
        raise ProcessLost

    setattr(store, method, lose)
    return store
