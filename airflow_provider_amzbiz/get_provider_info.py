"""What Airflow's provider discovery and connection form read. Imports nothing: it runs at Airflow's start."""

from __future__ import annotations

from typing import Any

_INTEGRATION = "Amazon Business"

CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "refresh_token": {
        "label": "Refresh token",
        "description": "Login with Amazon refresh token of the account that gave consent. It begins with Atzr|.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "region": {
        "label": "Region",
        "description": "The account's region: na (US, Canada, Mexico), eu (Europe, India), fe (Japan, Australia).",
        "schema": {"type": ["string", "null"], "enum": ["na", "eu", "fe"], "default": "na"},
    },
    "marketplace_ids": {
        "label": "Marketplaces",
        "description": "Optional. Default for operators: comma-separated IDs, such as ATVPDKIKX0DER (US).",
        "schema": {"type": ["string", "null"]},
    },
    "token_url": {
        "label": "Token URL",
        "description": "Optional. Replaces https://api.amazon.com/auth/o2/token.",
        "schema": {"type": ["string", "null"]},
    },
    "client_secret_created_on": {
        "label": "Secret created on",
        "description": "Optional. The Client secret expires 180 days after this date. Logs warn from day 150 on.",
        "schema": {"type": ["string", "null"], "format": "date"},
    },
    "application_name": {
        "label": "Application",
        "description": "Optional. Name of your application, added to the User-Agent of each request.",
        "schema": {"type": ["string", "null"]},
    },
    "rate_limits": {
        "label": "Rate limits",
        "description": 'Optional JSON, such as {"createReport": [0.1, 15]}: requests per second, and burst.',
        "schema": {"type": ["string", "null"]},
    },
    "rate_limit_store": {
        "label": "Rate limit store",
        "description": "Optional. ID of a Redis connection, through which all processes share one limit.",
        "schema": {"type": ["string", "null"]},
    },
}

FIELD_BEHAVIOUR: dict[str, Any] = {
    # Port is not hidden: where none is stored, the test button of Airflow 3.3.1 and 3.3.2 sends 0, and the test is
    # refused because that is not what is stored.
    "hidden-fields": ["schema"],
    "relabeling": {"login": "Client ID", "password": "Client secret", "host": "Endpoint"},
    "placeholders": {
        "login": "amzn1.application-oa2-client....",
        "host": "Leave empty to use the region's host",
        "port": "Leave empty, or 0 to test it in Airflow 3.3.1 and 3.3.2",
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in the form of Airflow's ``provider_info.schema.json``."""
    package = "airflow_provider_amzbiz"

    def modules(*names: str) -> list[dict[str, Any]]:
        return [{"integration-name": _INTEGRATION, "python-modules": [f"{package}.{each}" for each in names]}]

    asset_uris = [
        {
            "schemes": ["amazon-business"],
            "handler": f"{package}.assets.reports.sanitize_uri",
            "to_openlineage_converter": f"{package}.assets.reports.convert_asset_to_openlineage",
        }
    ]

    return {
        "package-name": "airflow-provider-amzbiz",
        "name": "Amazon Business",
        "description": "Amazon Business Reports API: reports and invoices to Amazon S3.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://developer-docs.amazon.com/amazon-business/docs/document-api",
                "tags": ["service"],
            }
        ],
        "hooks": modules("hooks.amazon_business"),
        "operators": modules("operators.reports", "operators.reconciliation"),
        "sensors": modules("sensors.reports"),
        "triggers": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    f"{package}.triggers.{each}" for each in ("reports", "permits", "batch", "reports_done")
                ],
            }
        ],
        "transfers": [
            {
                "source-integration-name": _INTEGRATION,
                "target-integration-name": "Amazon Simple Storage Service (S3)",
                "python-module": f"{package}.transfers.{each}",
            }
            for each in ("report_document_to_s3", "reports_to_s3", "invoices_to_s3", "transactions_to_s3")
        ],
        "extra-links": [f"{package}.links.{each}" for each in ("S3ConsoleLink", "ReportStatusesLink")],
        "asset-uris": asset_uris,
        # What Airflow 2 reads.
        "dataset-uris": asset_uris,
        "connection-types": [
            {
                "connection-type": "amazon_business",
                "hook-class-name": f"{package}.hooks.amazon_business.AmazonBusinessHook",
                "hook-name": "Amazon Business",
                "ui-field-behaviour": FIELD_BEHAVIOUR,
                "conn-fields": CONNECTION_FIELDS,
            }
        ],
    }
