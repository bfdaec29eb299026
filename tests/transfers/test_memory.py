"""A document of a gibibyte goes to S3 in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

GIB = 1024**3
MIB = 1024**2

# In a process of its own, so that the peak is the transfer's. VmHWM is the peak of the resident memory.
TRANSFER = """
import json, sys, time
import boto3, smart_open
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator

def memory(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))

move = ReportDocumentToS3Operator(task_id="move", report_id=sys.argv[1], s3_uri="s3://tests/gibibyte.tsv")
boto3.client("s3", region_name="us-east-1")
idle, started = memory("VmRSS"), time.monotonic()
(stored,) = move.execute({})
print(json.dumps({**stored, "above_idle": memory("VmHWM") - idle, "seconds": time.monotonic() - started}))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_gibibyte_in_at_most_80_mebibytes(sandbox, s3, record_property):
    report_id = AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES", report_options={"bytes": GIB})

    done = subprocess.run([sys.executable, "-c", TRANSFER, report_id], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    record_property("mebibytes above the idle process", result["above_idle"] / MIB)
    assert GIB <= result["bytes"] < GIB + 1000
    assert s3.head_object(Bucket="tests", Key="gibibyte.tsv")["ContentLength"] == result["bytes"]
    assert result["above_idle"] <= 80 * MIB
    s3.delete_object(Bucket="tests", Key="gibibyte.tsv")
