"""From a list of requests to items: what is checked before the first call, and what an earlier list had."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_provider_amzbiz.batch.item import Item
from airflow_provider_amzbiz.batch.record import folder_of
from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.client.request import ReportRequest

log = logging.getLogger(__name__)

PARAMETERS = ("report_type", "marketplace_ids", "data_start_time", "data_end_time", "report_options", "s3_key")
# An older name of ``s3_key``, which means the same.
_OLD_KEY = "key"
# Placeholders of a key that only the finished document fills in.
LATE = ("report_id", "report_document_id", "name")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


class Keys(Protocol):
    """How keys of objects are checked and rendered."""

    def check(self, parameter: str, key: str, known: Iterable[str]) -> None:
        """Refuse a template that could not be rendered, or not to a key that S3 takes."""

    def check_values(self, where: str, key: str, values: Mapping[str, str]) -> None:
        """Refuse values that a template cannot be filled in with."""

    def render(self, key: str, values: Mapping[str, str | None]) -> str:
        """Fill in the placeholders."""


@dataclass(frozen=True)
class Place:
    """Where the documents and the manifest of a batch go, as templates have rendered it.

    :raises InvalidParameterError: one of them is no non-empty string.
    """

    bucket: str
    key: str
    manifest_key: str
    audit_key: str | None = None

    def __post_init__(self) -> None:
        names = {"s3_bucket": self.bucket, "s3_key": self.key, "manifest_key": self.manifest_key}
        if self.audit_key is not None:
            names["audit_key"] = self.audit_key
        for name, value in names.items():
            check_string(name, value)
        if self.audit_key is not None and self._is_of_record(self.audit_key):
            raise InvalidParameterError(
                f"audit_key is {self.audit_key!r}, where the batch keeps its manifest; change one of them"
            )

    def is_reserved(self, key: str) -> bool:
        """Tell whether a key is the manifest's or the table's, or in the folder of the manifest's parts."""
        return self._is_of_record(key) or key == self.audit_key

    def _is_of_record(self, key: str) -> bool:
        return key == self.manifest_key or key.startswith(folder_of(self.manifest_key))


def check_string(name: str, value: Any) -> None:
    """Refuse what is no non-empty string.

    :raises InvalidParameterError: such as a number that a natively rendered template has made.
    """
    if not isinstance(value, str) or not value:
        raise InvalidParameterError(
            f"{name} is {value!r} ({type(value).__name__}), but must be a non-empty string. Where a DAG has "
            "render_template_as_native_obj=True, a template that renders digits becomes a number: put a letter or "
            "a folder into it"
        )


def plan_items(
    given: Any, place: Place, *, parse: Callable[[str, Mapping[str, Any]], ReportRequest], keys: Keys
) -> list[Item]:
    """Return the items of a list of requests, those that are equal as one.

    :param parse: name and dict of a request to what goes on the wire.
    :raises InvalidParameterError: the list, one of the requests, or a key is not allowed.
    """
    items: dict[str, Item] = {}
    for position, values in enumerate(_listed(given)):
        where = f"requests[{position}]"
        name, own_key, values = _checked(where, values)
        request = parse(where, values)
        key = place.key if own_key is None else own_key
        if own_key is not None:
            check_string(f"{where}.{name}", key)
        item = Item(position, request.body, key)
        keys.check("s3_key" if own_key is None else f"{where}.{name}", key, {*names(item), *LATE})
        keys.check_values(where, key, {**names(item), **dict.fromkeys(LATE, "x")})
        first = items.setdefault(item.identity, item)
        if first is item:
            continue
        if symbolic(first) != symbolic(item):
            raise InvalidParameterError(
                f"{where} asks for the same report as requests[{first.index}], but under the key {key!r} instead "
                f"of {first.key!r}; leave one of them out, and copy its object afterwards if you need it twice"
            )
        first.positions = [*(first.positions or [first.index]), position]
    planned = list(items.values())
    if repeated := [item for item in planned if item.positions]:
        log.info(
            "%s requests stand in the list more than once, and are created once: the first is %s, at positions %s",
            len(repeated),
            repeated[0].label,
            repeated[0].positions,
        )
    return planned


def names(item: Item) -> dict[str, str]:
    """Return what the placeholders of an item's key stand for, as far as it is known beforehand."""
    return {**item.request.options, "index": str(item.index), "report_type": item.report_type}


def symbolic(item: Item) -> str:
    """Return an item's key, rendered but for its index and what is known later: the same for the same target."""
    known = {name: value for name, value in names(item).items() if name != "index" and name not in LATE}
    return _PLACEHOLDER.sub(lambda match: known.get(match[1], match[0]), item.key)


def is_late(item: Item) -> bool:
    """Tell whether an item's key is known only when its document arrives."""
    return bool(set(_PLACEHOLDER.findall(item.key)) & set(LATE))


def check_keys(items: Sequence[Item], place: Place, keys: Keys) -> None:
    """Refuse items that would write the same key, or the manifest's.

    :raises InvalidParameterError: two do, or one does.
    """
    taken: dict[str, Item] = {}
    for item in items:
        if is_late(item):
            continue
        key = keys.render(item.key, names(item))
        if place.is_reserved(key):
            raise InvalidParameterError(
                f"{item.label} would write the key {key!r}, where the batch keeps its manifest or its table; "
                "change s3_key, manifest_key or audit_key"
            )
        if (first := taken.setdefault(key, item)) is not item:
            raise InvalidParameterError(
                f"{item.label} would write the key {key!r}, as would {first.label}; put a placeholder such as "
                "{index} or {report_id} into s3_key"
            )


@dataclass
class Reconciled:
    """Today's list, and what an earlier one had.

    :ivar items: one for each request, in today's order; those that were known are the known ones.
    :ivar dropped: known ones that are in the list no more.
    :ivar next_index: the first index that no item has had.
    """

    items: list[Item]
    dropped: list[Item]
    next_index: int


def reconcile(planned: Sequence[Item], known: Iterable[Item], next_index: int) -> Reconciled:
    """Match today's list with the items of an earlier one, by request and key and never by position.

    :param known: items that were planned for the same account and bucket.
    :param next_index: the first index that none of them has had.
    """
    by_content = {(item.identity, symbolic(item)): item for item in known}
    items, new = [], 0
    for item in planned:
        found = by_content.pop((item.identity, symbolic(item)), None)
        if found is not None:
            found.positions = item.positions
            items.append(found)
            continue
        if next_index:
            item.index = next_index + new
        new += 1
        items.append(item)
    # The first list's indexes are its positions, of which requests that are equal leave some out.
    last = max((item.index for item in items), default=-1)
    return Reconciled(items, list(by_content.values()), max(next_index, last + 1))


def _listed(given: Any) -> list[Any]:
    if given is None or isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise InvalidParameterError(f"requests is {given!r}, but must be a list of dicts")
    return list(given)


def _checked(where: str, values: Any) -> tuple[str, Any, Mapping[str, Any]]:
    """Return a request's name for its key, the key if it has one of its own, and its other parameters."""
    if not isinstance(values, Mapping):
        raise InvalidParameterError(f"{where} is {values!r}, but must be a dict")
    for name in values:
        if name not in (*PARAMETERS, _OLD_KEY):
            raise InvalidParameterError(f"{where} has {name!r}, but may have only {', '.join(PARAMETERS)}")
    if "s3_key" in values and _OLD_KEY in values:
        raise InvalidParameterError(
            f"{where} has both s3_key and {_OLD_KEY}, its older name, but may have only s3_key"
        )
    name = _OLD_KEY if _OLD_KEY in values else "s3_key"
    return name, values.get(name), {each: value for each, value in values.items() if each != name}
