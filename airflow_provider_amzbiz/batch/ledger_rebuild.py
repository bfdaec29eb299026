"""Making a ledger again from the manifests of batches, which say what was delivered."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.batch.delivery import IDENTITY, Delivery, LedgerError, delivery_of
from airflow_provider_amzbiz.batch.head import COMPLETE, VERSION
from airflow_provider_amzbiz.batch.ledger import Ledger, ledger_folder, record_all
from airflow_provider_amzbiz.batch.object_store import ObjectStore, split_uri

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


@dataclass(frozen=True)
class _Found:
    """A delivery as a manifest has it.

    :ivar stored: whether the manifest's own batch has stored it.
    """

    delivery: Delivery
    stored: bool

    @property
    def rank(self) -> tuple[bool, datetime]:
        return self.stored, self.delivery.delivered_at


def rebuild(
    s3: S3Client, uri: str, sources: Iterable[str], *, request_args: Mapping[str, Any] | None = None
) -> tuple[dict[str, int], list[str]]:
    """Record in a ledger what manifests say was delivered.

    What the ledger has already stays as it is, so that this can be run again, and while batches run. Where several
    batches have stored the documents of one request, the last one counts: it did so because the former objects
    were missing, or the delivery was forgotten.

    :param uri: of the ledger.
    :param sources: URIs of manifests, or of folders (with a slash at the end) that have them, at any depth.
    :param request_args: more parameters of S3's; those of access and encryption apply.
    :return: the number of new entries of each account, and the manifests that were left out, because their batches
        have not ended.
    :raises LedgerError: a manifest is damaged, missing or of a newer version; nothing was recorded.
    :raises InvalidParameterError: a URI is not allowed.
    """
    ledger_folder(uri)
    found: dict[str, dict[str, _Found]] = defaultdict(dict)
    unfinished: list[str] = []
    for manifest_uri, written_at, manifest in _manifests(s3, sources, request_args):
        if manifest["state"] != COMPLETE:
            unfinished.append(manifest_uri)
            continue
        of_account = found[manifest["target"]["account"]]
        for identity, each in _deliveries(manifest_uri, manifest, written_at):
            of_account[identity] = max(each, of_account.get(identity, each), key=lambda known: known.rank)
    ledgers = {account: Ledger(s3, uri, account=account, request_args=request_args) for account in found}
    added = {
        account: record_all(ledgers[account], {identity: each.delivery for identity, each in deliveries.items()})
        for account, deliveries in found.items()
    }
    return added, unfinished


def _manifests(
    s3: S3Client, uris: Iterable[str], request_args: Mapping[str, Any] | None = None
) -> list[tuple[str, datetime, dict[str, Any]]]:
    """Return the manifests of batches, each with its URI and when it was written.

    :param uris: of manifests, or of folders (with a slash at the end) that have them, at any depth.
    :raises LedgerError: one is damaged, missing or of a newer version.
    """
    found: dict[str, tuple[datetime, dict[str, Any]]] = {}
    for uri in uris:
        bucket, key = split_uri("manifests", uri)
        store = ObjectStore(s3, bucket, request_args)
        keys = [key]
        if key.endswith("/"):
            keys = [each.key for page in store.pages(key) for each in page if each.key.endswith(".json")]
        for each in keys:
            found[store.uri(each)] = _manifest(store, each)
    return [(uri, *each) for uri, each in found.items()]


def _manifest(store: ObjectStore, key: str) -> tuple[datetime, dict[str, Any]]:
    stored = store.get(key)
    if stored is None:
        raise LedgerError(f"There is no manifest {store.uri(key)}; name one, or a folder with a slash at its end")
    try:
        content = json.loads(stored.body)
        version, state, account = content["version"], content["state"], content["target"]["account"]
    except (ValueError, LookupError, TypeError):
        raise LedgerError(
            f"{store.uri(key)} is no manifest of a batch; leave it out, or name the manifests one by one"
        ) from None
    if version != VERSION:
        raise LedgerError(
            f"The manifest {store.uri(key)} has version {version!r}, and this release of the provider reads "
            f"{VERSION}: use the release that wrote it, or leave it out"
        )
    if state == COMPLETE and not (isinstance(account, str) and isinstance(content.get("items"), list)):
        raise LedgerError(f"The manifest {store.uri(key)} is damaged; restore it or leave it out")
    return stored.last_modified, content


def _deliveries(uri: str, manifest: Mapping[str, Any], written_at: datetime) -> Iterator[tuple[str, _Found]]:
    """Return what a batch has delivered, and what it found delivered, by identity.

    :param uri: of the manifest, for errors.
    :raises LedgerError: the manifest is damaged.
    """
    owner = manifest.get("owner") or {}
    by = "/".join(str(owner[name]) for name in ("dag_id", "run_id", "task_id") if name in owner)
    for item in manifest["items"]:
        try:
            if item.get("objects"):
                if not IDENTITY.fullmatch(item["fingerprint"]):
                    raise ValueError(f"fingerprint is {item['fingerprint']!r}")
                delivery = delivery_of(item, by, otherwise_at=written_at)
                yield item["fingerprint"], _Found(delivery, not item.get("already_delivered"))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise LedgerError(
                f"The manifest {uri} is damaged: {type(error).__name__}: {error}; restore it or leave it out"
            ) from None
