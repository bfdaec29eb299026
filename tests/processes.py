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


def lost_with(store, field):
    """Lose the process when it would write a record that has a value in a field."""
    write = store.set

    def lose(key, value, **more):
        if value[field]:
            raise ProcessLost
        write(key, value, **more)

    store.set = lose
    return store
