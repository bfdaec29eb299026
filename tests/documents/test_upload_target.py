"""Where objects go: a client and a bucket are enough."""

from __future__ import annotations

from airflow_provider_amzbiz.documents.to_s3 import copy_to_s3
from airflow_provider_amzbiz.documents.upload_target import UploadTarget
from tests.documents.scripted_server import serve_gzip
from tests.documents.transferring import key_of


def test_the_defaults_store_a_document(host, s3, bucket, stored, caplog):
    serve_gzip(host, b"order\n")
    caplog.set_level("INFO")
    (result,) = copy_to_s3(host.fetch, UploadTarget(s3, bucket), key_of, allow_http=True)
    assert stored() == {"document": b"order\n"}
    assert f"Stored {result.uri}" in caplog.text
