"""The operators for reports: create, cancel and list. The sensor that waits is in ``sensors/reports.py``."""

from __future__ import annotations

from airflow_provider_amzbiz.operators.cancel_report import CancelReportOperator
from airflow_provider_amzbiz.operators.create_report import CreateReportOperator
from airflow_provider_amzbiz.operators.get_reports import GetReportsOperator

__all__ = ["CancelReportOperator", "CreateReportOperator", "GetReportsOperator"]
