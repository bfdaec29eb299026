"""Memory stays bounded, and nothing heavy is imported before a transfer runs."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
import textwrap

MIB = 1024 * 1024
SIZE = 256 * MIB


def test_a_large_document_needs_little_memory(host, s3_server, bucket):
    # Random bytes that come again within deflate's window of 32 KiB shrink about as far as a report does.
    member = gzip.compress(b"".join(random.Random(n).randbytes(16 * 1024) * 8 for n in range(16 * 8)), 1)
    host.content = member * (SIZE // MIB // 16)
    url = host.fetch().url
    script = f"""
        import json, re
        from pathlib import Path
        import boto3, requests, smart_open
        from airflow_provider_amzbiz.documents.to_s3 import copy_to_s3
        from airflow_provider_amzbiz.documents.upload_target import UploadTarget
        from botocore.config import Config

        class Document:
            url = {url!r}
            compression_algorithm = "GZIP"

        s3 = boto3.client("s3", endpoint_url={s3_server.endpoint_url!r}, region_name="us-east-1",
            aws_access_key_id={s3_server.access_key!r}, aws_secret_access_key={s3_server.secret_key!r},
            config=Config(s3={{"addressing_style": "path"}}))
        s3.list_buckets()
        # Not ru_maxrss: that one begins with the peak of the process which started this one.
        peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
        idle = peak()
        (stored,) = copy_to_s3(Document, UploadTarget(s3, {bucket!r}), lambda _: "large", allow_http=True)
        print(json.dumps({{"bytes": stored.bytes, "above_idle": peak() - idle}}))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    result = json.loads(ran.stdout)
    assert result["bytes"] == SIZE
    assert result["above_idle"] < 80 * MIB


def test_the_engine_imports_no_airflow():
    script = (
        "import sys, airflow_provider_amzbiz.documents.to_s3, airflow_provider_amzbiz.documents.text;"
        "print('airflow' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
