"""The ways to transfer a document that are compared; each is a command that reads ``BENCH_*`` and ``AWS_*``."""

from __future__ import annotations

import sys

from airflow_provider_amzbiz.documents.multipart import SENDERS

_START = """
import gzip, json, os, shutil
url, bucket, count = os.environ["BENCH_URL"], os.environ["BENCH_BUCKET"], int(os.environ["BENCH_COUNT"])
"""

_OURS = (
    _START
    + """
import boto3
from airflow_provider_amzbiz.documents.to_s3 import copy_to_s3
from airflow_provider_amzbiz.documents.upload_options import UploadOptions
from airflow_provider_amzbiz.documents.upload_target import UploadTarget
class Document:
    compression_algorithm = "GZIP"
Document.url = url
target = UploadTarget(boto3.client("s3"), bucket, UploadOptions(sha256=SHA256))
for number in range(count):
    copy_to_s3(Document, target, lambda _: f"ours/{number}", allow_http=True)
"""
)
_SMART_OPEN = (
    _START
    + """
import boto3, smart_open
s3 = boto3.client("s3")
for number in range(count):
    with smart_open.open(url, "rb", compression=".gz") as source:
        with smart_open.open(f"s3://{bucket}/smart/{number}", "wb", transport_params={"client": s3}) as target:
            shutil.copyfileobj(source, target)
"""
)
_CONTENT = (
    _START
    + """
import boto3, requests
s3 = boto3.client("s3")
for number in range(count):
    body = gzip.decompress(requests.get(url).content)
    s3.put_object(Bucket=bucket, Key=f"content/{number}", Body=body)
"""
)
_UPLOAD_FILEOBJ = (
    _START
    + """
import boto3, requests
s3 = boto3.client("s3")
class Stream:
    # boto3 would call seek, which an HTTP stream does not support.
    def __init__(self, file):
        self.read = file.read
for number in range(count):
    with requests.get(url, stream=True) as response:
        s3.upload_fileobj(Stream(gzip.GzipFile(fileobj=response.raw)), bucket, f"fileobj/{number}")
"""
)
_HTTP_TO_S3 = (
    _START
    + """
from urllib.parse import urlsplit
parts = urlsplit(url)
os.environ["AIRFLOW_CONN_BENCH_HTTP"] = json.dumps({"conn_type": "http", "host": f"https://{parts.netloc}"})
os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = "aws://"
from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator
for number in range(count):
    HttpToS3Operator(
        task_id="move", endpoint=parts.path, http_conn_id="bench_http", aws_conn_id="aws_default",
        s3_bucket=bucket, s3_key=f"http/{number}", replace=True,
    ).execute({})
"""
)
_PIPE = (
    'for number in $(seq "$BENCH_COUNT"); do '
    'curl --silent --fail "$BENCH_URL" | igzip -dc | '
    f's5cmd pipe -c {SENDERS} -p 16 "s3://$BENCH_BUCKET/pipe/$number"; done'
)


def _python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


# The first one is the base of the comparison.
CONTENDERS: dict[str, list[str]] = {
    "(i) curl | igzip -dc | s5cmd pipe": ["bash", "-o", "pipefail", "-ec", _PIPE],
    "ours, sha256=False": _python(_OURS.replace("SHA256", "False")),
    "ours": _python(_OURS.replace("SHA256", "True")),
    "(ii) smart_open to smart_open": _python(_SMART_OPEN),
    "(iii) .content, gzip.decompress, put_object": _python(_CONTENT),
    "(iv) HttpToS3Operator, does not gunzip": _python(_HTTP_TO_S3),
    "(v) upload_fileobj over gzip.GzipFile": _python(_UPLOAD_FILEOBJ),
}
