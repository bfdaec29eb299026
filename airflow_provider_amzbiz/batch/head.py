"""The head of a batch's record: one small object that says where everything else is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from airflow_provider_amzbiz.batch.errors import RecordDamagedError, RecordForeignError, RecordNewerError

# Of the record and the manifest. It changes when an older release could not continue what a newer one began.
VERSION = 2
RUNNING, COMPLETE = "running", "complete"


@dataclass(frozen=True)
class Target:
    """What a batch was planned for: items of another target are other items.

    :ivar account: non-secret identity of the application, the customer and the API's host.
    :ivar application: the same without the customer, whose refresh token may be rotated.
    :ivar bucket: of the documents.
    """

    account: str
    application: str
    bucket: str


@dataclass
class Head:
    """The head.

    :ivar owner: of the record: ``dag_id``, ``run_id``, ``task_id`` and ``map_index``, and in a loop ``loop``.
    :ivar attempt: names the attempt of the task; changes with each.
    :ivar deadline: Unix time at which the attempt ends.
    :ivar stint: number of the last process that has closed its log.
    :ivar requested: requests in all.
    :ivar next_index: the first index that no request has had.
    :ivar plan: parts that list the attempt's requests; ``cursor`` of ``planned`` were begun.
    :ivar snapshot: part with the live items, and ``deltas`` what has changed since: merged ones, then entries
        of the log.
    :ivar segments: parts with finished items.
    :ivar dropped: part with items that an earlier list had.
    :ivar counts: of finished items.
    :ivar sizes: bytes of the snapshot, and of all entries of the log that were listed as deltas since.
    :ivar claims: whether documents claim their keys, because some are known only when they arrive.
    :ivar settings: what else the first process of the attempt has rendered, for those that continue it.
    """

    owner: Mapping[str, Any]
    target: Target
    attempt: str
    deadline: float
    state: str = RUNNING
    stint: int = 0
    requested: int = 0
    next_index: int = 0
    plan: list[str] = field(default_factory=list)
    planned: int = 0
    cursor: int = 0
    rotation: int = -1
    snapshot: str | None = None
    deltas: list[str] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)
    dropped: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=lambda: [0, 0])
    claims: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self, **more: Any) -> bytes:
        """Return the content of the object.

        :param more: what a complete manifest has beside.
        """
        return json.dumps({"version": VERSION, **asdict(self), **more}, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, body: bytes, uri: str, owner: Mapping[str, Any]) -> tuple[Head, dict[str, Any]]:
        """Read a head, or a complete manifest, and return it with all that is in it.

        :raises RecordNewerError: another version of the provider has written it.
        :raises RecordForeignError: it is another task's.
        :raises RecordDamagedError: it is neither.
        """
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if not isinstance(content, dict) or "version" not in content:
            raise damaged(uri, "is no manifest that this version can read")
        if content["version"] != VERSION:
            raise RecordNewerError(
                f"{uri} is no manifest that this version can read: its version is {content['version']!r}, and "
                f"this release of the provider reads {VERSION}. Use the release that wrote it, or set another "
                "manifest_key to begin again"
            )
        if content.get("owner") != dict(owner):
            raise RecordForeignError(
                f"{uri} is the manifest of {_named(content.get('owner'))}, but this is {_named(owner)}. Tasks, "
                "runs and mapped tasks cannot share a manifest: leave manifest_key out, or put {{ run_id }} and, "
                "for mapped tasks, {{ ti.map_index }} into it. What an earlier run has delivered, a ledger tells"
            )
        try:
            known = {each.name: content[each.name] for each in fields(cls)}
            return cls(**{**known, "target": Target(**content["target"])}), content
        except (KeyError, TypeError, AttributeError):
            raise damaged(uri) from None


def damaged(uri: str, how: str = "is damaged") -> RecordDamagedError:
    """Return the error of a head, or a manifest, that cannot be read."""
    return RecordDamagedError(
        f"{uri} {how}: restore {uri} from a backup or an earlier version, or set another manifest_key to begin "
        "again"
    )


def _named(owner: Any) -> str:
    if not isinstance(owner, Mapping):
        return "an unknown task"
    named = f"task {owner.get('task_id')!r} of DAG {owner.get('dag_id')!r}, run {owner.get('run_id')!r}"
    index = owner.get("map_index", -1)
    return named if index == -1 else f"{named}, map index {index}"
