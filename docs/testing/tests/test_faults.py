import pytest

from airflow_provider_amzbiz.exceptions import ReportFatalError
from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor


def test_a_503_is_retried(amazon_business_sandbox):
    amazon_business_sandbox.inject(Fault(operation="createReport", kind="status", status=503, body="html"))

    CreateReportOperator(task_id="create", report_type="SANDBOX_ORDER_LINES").execute({})

    assert len(amazon_business_sandbox.reports) == 1


@pytest.mark.amazon_business_sandbox(processing_seconds=3600)
def test_what_my_callback_gets(amazon_business_sandbox):
    amazon_business_sandbox.script(outcome="FATAL")
    report_id = CreateReportOperator(task_id="create", report_type="SANDBOX_ORDER_LINES").execute({})
    amazon_business_sandbox.clock.advance(3600)

    with pytest.raises(ReportFatalError) as raised:
        ReportStatusSensor(task_id="wait", report_id=report_id).execute({})

    assert raised.value.report_id == report_id
