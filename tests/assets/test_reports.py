"""Reports as assets of Airflow: their URIs, and their OpenLineage datasets."""

from __future__ import annotations

import airflow
import pytest

from airflow_provider_amzbiz.assets.reports import report_uri
from airflow_provider_amzbiz.lineage import MovedDocument, Transfer
from tests.airflow_names import Asset

AIRFLOW_3 = airflow.__version__.startswith("3")


INVOICE = "GET_AB_INVOICE_PDF"


@pytest.mark.parametrize(
    ("uri", "normal"),
    [
        ("amazon-business://EU.business-api.amazon.com/reports/T/1", "eu.business-api.amazon.com/reports/T/1"),
        ("amazon-business://eu.business-api.amazon.com/reports/T/", "eu.business-api.amazon.com/reports/T"),
        ("amazon-business://127.0.0.1:8099/documents/amzn1.tortuga.3", "127.0.0.1:8099/documents/amzn1.tortuga.3"),
        ("amazon-business://NA.business-api.amazon.com/transactions", "na.business-api.amazon.com/transactions"),
    ],
)
def test_uris_of_reports_are_assets(uri, normal):
    assert Asset(uri=uri).uri == f"amazon-business://{normal}"


@pytest.mark.parametrize(
    "uri",
    [
        "amazon-business:///reports/T/1",
        "amazon-business://host",
        "amazon-business://host/reports",
        "amazon-business://host/reports/T/1/2",
        "amazon-business://host/documents/1/2",
        "amazon-business://host/invoices/1",
        "amazon-business://host/transactions/1",
    ],
)
def test_a_uri_that_names_nothing_is_refused(uri, monkeypatch):
    if AIRFLOW_3:
        with pytest.raises(ValueError, match="must be like amazon-business://<API host>/reports/<type>"):
            Asset(uri=uri)
    else:
        # Airflow 2 only warns, unless it is configured otherwise.
        monkeypatch.setenv("AIRFLOW__CORE__STRICT_DATASET_URI_VALIDATION", "True")
        with pytest.raises(ValueError, match="must be like amazon-business://<API host>/reports/<type>"):
            Asset(uri=uri)


def test_an_asset_becomes_the_dataset_that_the_transfers_name():
    from airflow.providers.common.compat.openlineage.utils.utils import translate_airflow_asset

    asset = Asset(uri=report_uri("na.business-api.amazon.com", INVOICE, "50001"))

    dataset = translate_airflow_asset(asset, None)

    moved = [MovedDocument(INVOICE, "50001", "d", [{"uri": "s3://b/k", "bytes": 1, "sha256": None}])]
    (expected,) = Transfer("na.business-api.amazon.com", moved).to_openlineage().inputs
    assert (dataset.namespace, dataset.name) == (expected.namespace, expected.name)
    assert dataset.name == f"reports/{INVOICE}/50001"
