"""The ledger: which requests of an account have been delivered, whichever DAG run asked for them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.batch.delivery import IDENTITY, Delivery, LedgerError, entry_of, read_entry
from airflow_provider_amzbiz.batch.ledger_index import ENTRIES_PER_GET, LedgerIndex
from airflow_provider_amzbiz.batch.object_store import (
    Listed,
    ObjectStore,
    PreconditionFailed,
    in_threads,
    split_uri,
)
from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.documents.errors import DocumentStorageError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

__all__ = ["Delivery", "Ledger", "LedgerError", "accounts_of", "record_all"]

_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,127}")
# The folder beside those of the accounts, where feeds keep their state.
FEED = "feed"
# Up to so many entries are read one by one, without a listing or the index.
_FEW = 64
# Identities are spread evenly, as SHA-256 is: the position of one tells how many there are.
_POSITION_DIGITS = 8
# Attempts to write an entry that others forget and write at the same time.
_WRITES = 5


class Ledger:
    """Remembers each delivered request of an account: one small object for each, in S3.

    An entry is written on the condition that there is none, so that any number of runs can use one ledger at a
    time. All methods are safe to use in several threads.

    :param s3: a boto3 client.
    :param uri: ``s3://bucket/prefix/``.
    :param account: tells the accounts of a ledger apart, in keys: letters, digits and ``. _ = -``. No secret.
    :param request_args: more parameters of S3's; those of access and encryption apply.
    :raises InvalidParameterError: ``uri`` or ``account`` is not allowed.
    """

    def __init__(
        self, s3: S3Client, uri: str, *, account: str, request_args: Mapping[str, Any] | None = None
    ) -> None:
        bucket, folder = ledger_folder(uri)
        if not isinstance(account, str) or not _ACCOUNT.fullmatch(account):
            raise InvalidParameterError(
                f"account is {account!r}, but must be 1 to 128 letters, digits and any of . _ = -, and begin with "
                "a letter or digit"
            )
        self.account = account
        self._store = ObjectStore(s3, bucket, request_args)
        self._entries = f"{folder}{account}/deliveries/"
        self._index = LedgerIndex(self._store, f"{folder}{account}/index/", account)

    def find(self, identity: str) -> Delivery | None:
        """Return the delivery of a request, None where it was not delivered.

        :param identity: SHA-256 of the request, in hex (:attr:`.ReportRequest.fingerprint`).
        :raises LedgerError: its entry is damaged, of something else, or of a newer version.
        :raises DocumentStorageError: S3 did not give it.
        """
        stored = self._store.get(key := self._key(identity))
        if stored is None:
            return None
        return read_entry(stored.body, self._store.uri(key), self.account, identity, stored.etag)

    def load(self, identities: Iterable[str]) -> dict[str, Delivery]:
        """Return the deliveries of many requests, by identity: exactly what :meth:`find` gives for each.

        :raises LedgerError: an entry is damaged, of something else, or of a newer version.
        :raises DocumentStorageError: S3 did not give them.
        """
        wanted = set(identities)
        for identity in wanted:
            self._key(identity)
        return self._read(*(self._listed(wanted) if len(wanted) > _FEW else ({}, wanted)))

    def entries(self) -> dict[str, Delivery]:
        """Return all deliveries of the account, by identity.

        :raises LedgerError: an entry is damaged, of something else, or of a newer version.
        """
        pages = self._store.pages(self._entries)
        return self._read({name: etag for page in pages for name, etag in self._etags(page).items()}, set())

    def record(self, identity: str, delivery: Delivery, *, replaces: Delivery | None = None) -> Delivery:
        """Remember a delivery, unless the request was delivered before; return what the ledger has then.

        :param replaces: what :meth:`find` or :meth:`load` gave, where its objects are missing: the new delivery
            takes the place of that one, and of no other.
        :return: the delivery, with the ETag of its entry, or that of another run, which was quicker.
        :raises LedgerError: what is there is damaged, of something else, or of a newer version.
        :raises DocumentStorageError: S3 did not take it.
        """
        key = self._key(identity)
        body = entry_of(self.account, identity, delivery)
        condition = {"IfMatch": replaces.etag} if replaces and replaces.etag else {"IfNoneMatch": "*"}
        for _ in range(_WRITES):
            try:
                etag = self._store.put(key, body, content_type="application/json", **condition)
                return replace(delivery, etag=etag)
            except PreconditionFailed:
                # An own write whose response was lost is there as it was sent.
                there = self.find(identity)
            if there is not None:
                return there
            condition = {"IfNoneMatch": "*"}
        raise DocumentStorageError(f"{self._store.uri(key)} is written and deleted by others all the time")

    def forget(self, identity: str) -> bool:
        """Delete the entry of a request, so that it is delivered again; return whether there was one.

        Its objects stay. A damaged entry can be forgotten, too.

        :raises DocumentStorageError: S3 did not delete it.
        """
        there = self._store.get(key := self._key(identity)) is not None
        if there:
            self._store.delete(key)
        return there

    def index(self, deliveries: Mapping[str, Delivery]) -> None:
        """Add what a batch has delivered to the index, which makes :meth:`load` quick; best at its end.

        It is no part of the record: without it everything is found, too. A failure of S3 is a warning.

        :param deliveries: by identity.
        """
        self._index.write(
            {
                identity: each if each.etag else replace(each, etag=_usual_etag(self.account, identity, each))
                for identity, each in deliveries.items()
            }
        )

    def missing_object(self, delivery: Delivery) -> str | None:
        """Return what is wrong with a delivered object in S3, None where all are as they were delivered.

        One HEAD for each object: its size must be the same, and its CRC32 where S3 keeps one.

        :raises DocumentStorageError: S3 does not tell.
        """
        for each in delivery.objects:
            if reason := _difference(each, self._store):
                return f"{each['uri']} {reason}"
        return None

    def _key(self, identity: str) -> str:
        if not isinstance(identity, str) or not IDENTITY.fullmatch(identity):
            raise InvalidParameterError(
                f"identity is {identity!r}, but must be a SHA-256 in lower-case hex, 64 digits"
            )
        return f"{self._entries}{identity}.json"

    def _etags(self, page: Iterable[Listed]) -> dict[str, str]:
        """Return what a page of a listing shows of entries: identity to ETag."""
        named = ((each.key[len(self._entries) :].removesuffix(".json"), each.etag) for each in page)
        return {identity: etag for identity, etag in named if IDENTITY.fullmatch(identity)}

    def _listed(self, wanted: set[str]) -> tuple[dict[str, str], set[str]]:
        """Return the ETags of the entries that there are, and the identities that were not listed.

        A ledger of years is not listed for a list of today: then it is quicker to ask for each.
        """
        known: dict[str, str] = {}
        listed = 0
        for page in self._store.pages(self._entries):
            etags = self._etags(page)
            if not etags:
                continue
            known.update((identity, etag) for identity, etag in etags.items() if identity in wanted)
            listed, last = listed + len(etags), max(etags)
            covered = (int(last[:_POSITION_DIGITS], 16) + 1) / 16**_POSITION_DIGITS
            if listed / covered > len(wanted) * ENTRIES_PER_GET:
                # Whatever was not seen, because not every kind of bucket is listed in the order of its keys.
                return known, wanted - known.keys()
        return known, set()

    def _read(self, known: Mapping[str, str], unlisted: set[str]) -> dict[str, Delivery]:
        """Return the deliveries of entries that there are, and of those of which it is not known."""
        found = self._index.read(known, _FEW) if len(known) > _FEW else {}
        rest = [*(identity for identity in known if identity not in found), *unlisted]
        read = dict(zip(rest, in_threads(self.find, rest), strict=True))
        of_entries = {identity: each for identity, each in read.items() if each is not None}
        # As listings show the ETag, which has quotes here and none there.
        copies = {
            identity: replace(each, etag=known[identity])
            for identity, each in of_entries.items()
            if identity in known and (each.etag or "").strip('"') == known[identity].strip('"')
        }
        if len(copies) > _FEW:
            # The next load is quicker.
            self._index.write(copies)
        return found | of_entries


def record_all(ledger: Ledger, deliveries: Mapping[str, Delivery]) -> int:
    """Record deliveries, but those of requests that the ledger has already; return how many were new."""
    known = ledger.load(deliveries)
    new = {name: replace(each, etag=None) for name, each in deliveries.items() if name not in known}
    recorded = in_threads(lambda pair: ledger.record(*pair), new.items())
    ledger.index(dict(zip(new, recorded, strict=True)))
    return len(new)


def accounts_of(s3: S3Client, uri: str, request_args: Mapping[str, Any] | None = None) -> list[str]:
    """Return the accounts that a ledger has entries of."""
    bucket, folder = ledger_folder(uri)
    return [name for name in ObjectStore(s3, bucket, request_args).folders(folder) if name != FEED]


def _usual_etag(account: str, identity: str, delivery: Delivery) -> str:
    """Return the ETag that S3 gives an entry which is not encrypted by KMS; a wrong one costs one read."""
    body = entry_of(account, identity, delivery)
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def ledger_folder(uri: object) -> tuple[str, str]:
    bucket, prefix = split_uri("ledger", uri)
    return bucket, prefix.rstrip("/") + "/"


def _difference(described: Mapping[str, Any], store: ObjectStore) -> str | None:
    """Return how an object in S3 is other than it was described, if it is."""
    from airflow_provider_amzbiz.documents.s3_errors import storage_errors
    from airflow_provider_amzbiz.documents.s3_requests import keeps_checksums, per_request_args

    bucket, key = split_uri("uri", described["uri"])
    mode: dict[str, Any] = {"ChecksumMode": "ENABLED"} if keeps_checksums(store.s3) else {}
    try:
        with storage_errors(bucket, key):
            there = store.s3.head_object(Bucket=bucket, Key=key, **per_request_args(store.arguments), **mode)
    except DocumentStorageError as error:
        if error.code in ("404", "NoSuchKey"):
            return "is missing"
        raise
    if there["ContentLength"] != described["bytes"]:
        return f"has {there['ContentLength']} bytes, not {described['bytes']}"
    crc32 = there.get("ChecksumCRC32")
    whole = crc32 is not None and there.get("ChecksumType") != "COMPOSITE"
    if whole and described["crc32"] is not None and crc32 != described["crc32"]:
        return f"has the CRC32 {crc32}, not {described['crc32']}"
    return None
