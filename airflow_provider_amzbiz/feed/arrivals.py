"""Which of a request's documents its objects are: a report may bring fewer than Amazon lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_amzbiz.feed.names import NOT_IN_REPORT, TOO_FEW_FILES

Described = Mapping[str, Any]
Entry = Mapping[str, Any]
# What tells the contents of two objects apart.
CONTENT = ("bytes", "sha256", "crc32")
_SEPARATORS = re.compile(r"[^A-Za-z0-9]+")


def match(objects: Sequence[Described], documents: Sequence[Entry]) -> list[tuple[Described, Entry | None]]:
    """Pair objects with the documents that they are: by the number in the name.

    Where no name has a number, the only new object is the only new document.
    """
    found = _named(objects, documents)
    if not found:
        new = _new_objects(objects, documents)
        left = [each for each in documents if each["delivered"] is None] or list(documents)
        if len(new) == len(left) == 1:
            found[new[0]] = left[0]
    return [(described, found.get(position)) for position, described in enumerate(objects)]


def arrived(objects: Sequence[Described], documents: Sequence[Entry]) -> set[int]:
    """Return the numbers in the run of the documents that surely are among the objects.

    Where no name has a number, these are all, if enough of the objects are new, else none.
    """
    found = _named(objects, documents)
    if found:
        return {each["id"] for each in found.values()}
    left = [each for each in documents if each["delivered"] is None]
    is_enough = len(_new_objects(objects, documents)) >= len(left)
    return {each["id"] for each in documents} if is_enough else set()


def reason_of_missing(objects: Sequence[Described], documents: Sequence[Entry]) -> str:
    """Return why a document has not arrived with the objects."""
    is_certain = _named(objects, documents) or not _new_objects(objects, documents)
    return NOT_IN_REPORT if is_certain else TOO_FEW_FILES


def joined(earlier: Iterable[Described], later: Iterable[Described]) -> list[Described]:
    """Return the objects of two deliveries, each once, as the later one describes it."""
    return list({each["uri"]: each for each in (*earlier, *later)}.values())


def known_objects(documents: Iterable[Entry]) -> dict[str, Described]:
    """Return the objects that earlier runs have stored of a request by URI, as far as the ledger has them."""
    found: dict[str, Described] = {}
    for document in documents:
        for delivery in (document["delivered"], document.get("previous")):
            found.update((each["uri"], each) for each in (delivery or {}).get("objects", ()))
    return found


def is_changed(before: Described, after: Described) -> bool:
    """Tell whether an object has another content than before, as far as both descriptions say."""
    pairs = [(before.get(name), after.get(name)) for name in CONTENT]
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def _new_objects(objects: Sequence[Described], documents: Sequence[Entry]) -> list[int]:
    known = known_objects(documents)
    return [position for position, described in enumerate(objects) if described["uri"] not in known]


def _named(objects: Sequence[Described], documents: Sequence[Entry]) -> dict[int, Entry]:
    left = sorted(documents, key=lambda each: -len(each["number"]))
    found: dict[int, Entry] = {}
    for position, described in enumerate(objects):
        name = described["uri"].rpartition("/")[2]
        document = next((each for each in left if _has_number(name, each["number"])), None)
        if document is not None:
            left.remove(document)
            found[position] = document
    return found


def _has_number(name: str, number: str) -> bool:
    """Tell whether a name has a number, whose characters may have been replaced, and not a longer one."""
    parts = [re.escape(part) for part in _SEPARATORS.split(number) if part]
    before = "(?<![0-9])" if number[:1].isdigit() else ""
    pattern = "[^A-Za-z0-9]+".join(parts)
    return bool(parts) and re.search(f"{before}{pattern}(?![A-Za-z0-9])", name) is not None
