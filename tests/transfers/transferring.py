"""One document from the sandbox to the S3 server of the tests, and what ends a task meanwhile."""

from __future__ import annotations

import io
import signal
import threading
import time
import zipfile
from contextlib import contextmanager

from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import RawDocument
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator

US = "ATVPDKIKX0DER"
BUCKET = "tests"
TEXT = b"order\tline\n" + b"".join(b"%d\tpaper\n" % number for number in range(20_000))


def create(sandbox, body=None, algorithm="GZIP", outcome="DONE", **raw):
    """Create a report with this document, and return its id."""
    document = None if body is None else RawDocument(body=body, compression_algorithm=algorithm, **raw)
    sandbox.script(outcome=outcome, document=document)
    return AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES", [US])


def transfer(**arguments):
    """Run the operator."""
    return ReportDocumentToS3Operator(task_id="move", s3_bucket=BUCKET, **arguments).execute({})


def zipped(**files):
    """Return a ZIP; two underscores in a name are a slash."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name.replace("__", "/"), content)
    return archive.getvalue()


def stored(s3, key):
    """Return the content of an object."""
    return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def open_uploads(s3):
    """Return the ids and keys of the open uploads."""
    return {each["UploadId"]: each["Key"] for each in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])}


def assert_nothing_there(s3, key):
    """Assert that there is no object and no open upload."""
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix=key).get("Contents", []) == []
    assert open_uploads(s3) == {}


@contextmanager
def interrupted(action, *, once):
    """Call something in this thread by a signal, once a condition holds and the thread is blocked."""

    def wait_and_signal():
        deadline = time.monotonic() + 30
        while not once() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: action())
    waiting = threading.Thread(target=wait_and_signal)
    waiting.start()
    try:
        yield
    finally:
        waiting.join()
        signal.signal(signal.SIGUSR1, before)
