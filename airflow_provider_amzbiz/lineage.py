"""What a transfer reports of its data: to OpenLineage, to readers of hook lineage, and in asset events."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

from airflow_provider_amzbiz.assets.reports import dataset_name, document_uri, report_uri
from airflow_provider_amzbiz.compat import Asset, AssetAlias, NoOpCollector
from airflow_provider_amzbiz.documents.s3_location import split_s3_uri

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_amzbiz.compat import Context
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

# Reports and objects that are named one by one. More are reported as a whole: thousands would make an event of
# megabytes, and thousands of datasets.
MAX_NAMED = 20
# Characters of an asset's URI; Airflow stores no longer ones.
_MAX_URI_LENGTH = 1500
_SAFE = "/:@!$&'()*+,;=~ "


@dataclass(frozen=True)
class MovedDocument:
    """A document that a transfer has stored.

    :ivar report_type: like ``report_id``, None if only the document's id was given.
    :ivar objects: what was stored, as the transfers return it.
    """

    report_type: str | None
    report_id: str | None
    report_document_id: str
    objects: Sequence[Mapping[str, Any]]

    def uri(self, host: str) -> str:
        """Return the URI of the report as an asset."""
        if self.report_id is None:
            return document_uri(host, self.report_document_id)
        return report_uri(host, self.report_type, self.report_id)

    @property
    def ids(self) -> dict[str, str | None]:
        """What identifies the report."""
        names = ("report_type", "report_id", "report_document_id")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class S3Output:
    """An object in S3, or the folder of several; what is not known is None."""

    bucket: str
    key: str
    bytes: int | None
    files: int | None
    rows: int | None

    @property
    def uri(self) -> str:
        """Its URI as an asset: in ASCII, and without characters that would start a query or a fragment."""
        return f"s3://{self.bucket}/{quote(self.key, safe=_SAFE)}"


@dataclass(frozen=True)
class Transfer:
    """What one task has stored.

    :ivar host: of the API.
    :ivar summary: of a batch, as it returns it.
    :ivar rows: lines of text by the URI of the object, None if they were not counted.
    :ivar inputs: URIs of what was read beside the reports.
    :ivar outputs: what was written beside the documents.
    """

    host: str
    documents: Sequence[MovedDocument]
    summary: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, int | None] = field(default_factory=dict)
    inputs: Sequence[str] = ()
    outputs: Sequence[S3Output] = ()

    @property
    def sources(self) -> list[str]:
        """URIs of what was read: the reports, or their types if there are many, and what else there is."""
        if len(self.documents) <= MAX_NAMED:
            return [*(each.uri(self.host) for each in self.documents), *self.inputs]
        types = sorted({each.report_type or "" for each in self.documents})
        return [*(report_uri(self.host, each) for each in types), *self.inputs]

    @property
    def targets(self) -> list[S3Output]:
        """The objects, or their folder if there are many."""
        named = [
            S3Output(*_split(each["uri"]), each["bytes"], 1, self.rows.get(each["uri"]))
            for each in self._objects()
        ]
        return named if len(named) <= MAX_NAMED else [self._whole()]

    def to_openlineage(self) -> OperatorLineage[Any, Any]:
        """Return the inputs and outputs for OpenLineage."""
        from airflow.providers.common.compat.openlineage.facet import (
            InputDataset,
            OutputDataset,
            OutputStatisticsOutputDatasetFacet,
        )
        from airflow.providers.openlineage.extractors import OperatorLineage

        inputs = [InputDataset(*dataset_name(uri)) for uri in self.sources]
        outputs = []
        for each in (*self.targets, *self.outputs):
            statistics = OutputStatisticsOutputDatasetFacet(
                rowCount=each.rows, size=each.bytes, fileCount=each.files
            )
            namespace, name = f"s3://{each.bucket}", each.key or "/"
            outputs.append(OutputDataset(namespace, name, outputFacets={"outputStatistics": statistics}))
        return OperatorLineage(inputs=inputs, outputs=outputs)

    def to_hook_lineage(self, hook: AmazonBusinessHook) -> None:
        """Report to the collector of hook lineage, which does nothing if nobody reads it."""
        collector = _collector()
        for uri in self.sources:
            collector.add_input_asset(context=hook, uri=uri)
        for target in (*self.targets, *self.outputs):
            if len(target.uri) <= _MAX_URI_LENGTH:
                collector.add_output_asset(context=hook, uri=target.uri)

    def to_outlets(self, outlets: Iterable[Any], context: Context) -> None:
        """Fill in the events of the task's outlets: of assets, and of the assets behind aliases."""
        for outlet in outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra.update(self._event())
            elif isinstance(outlet, AssetAlias):
                for target, extra in zip(self.targets, self._events(), strict=True):
                    if len(target.uri) <= _MAX_URI_LENGTH:
                        context["outlet_events"][outlet].add(Asset(uri=target.uri), extra=extra)

    def _event(self) -> dict[str, Any]:
        records = self._records()
        if len(records) == 1 and not self.summary:
            return records[0]
        total = self._total() if records else self.summary
        return {**total, "objects": records[:MAX_NAMED]}

    def _events(self) -> list[dict[str, Any]]:
        """One for each target. They are flat, because Airflow 2 hashes their values."""
        records = self._records()
        return records if len(records) <= MAX_NAMED else [self._total()]

    def _records(self) -> list[dict[str, Any]]:
        reported = ("uri", "bytes", "sha256")
        return [
            {**document.ids, **{name: each[name] for name in reported}}
            for document in self.documents
            for each in document.objects
        ]

    def _total(self) -> dict[str, Any]:
        whole = self._whole()
        ids = {} if self.summary else self.documents[0].ids
        return {
            **self.summary,
            **ids,
            "uri": f"s3://{whole.bucket}/{whole.key}",
            "bytes": whole.bytes,
            "object_count": whole.files,
        }

    def _whole(self) -> S3Output:
        """Return the folder that contains all objects."""
        locations = [_split(each["uri"]) for each in self._objects()]
        bucket = locations[0][0]
        folder = os.path.commonprefix([key for _, key in locations]).rpartition("/")[0]  # noqa: RUF071
        return S3Output(bucket, folder, sum(each["bytes"] for each in self._objects()), len(locations), None)

    def _objects(self) -> list[Mapping[str, Any]]:
        return [each for document in self.documents for each in document.objects]


def folder_of(uri: str) -> S3Output:
    """Return the folder of an object that was stored."""
    bucket, key = _split(uri)
    return S3Output(bucket, key.rpartition("/")[0], None, None, None)


def has_readers() -> bool:
    """Whether anybody reads lineage, so that counting lines is worth its cost."""
    return not isinstance(_collector(), NoOpCollector)


def _collector() -> Any:
    return get_hook_lineage_collector()  # type: ignore[no-untyped-call]


def _split(uri: str) -> tuple[str, str]:
    found = split_s3_uri(uri)
    if found is None:
        raise AssertionError(f"{uri!r} is not the URI of an object that was stored")
    return found
