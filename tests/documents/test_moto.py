"""A second S3: moto, which keeps no checksum of the whole and refuses no wrong one."""

from __future__ import annotations

import gzip
import random

import boto3
import pytest
import requests
from moto import mock_aws
from moto.server import ThreadedMotoServer

from airflow_provider_amzbiz.documents.errors import DocumentError, DocumentExistsError

SMALL = b"order\tamount\n" * 100
LARGE = random.Random(3).randbytes(20 * 1024 * 1024)


@pytest.fixture(scope="module")
def moto():
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto):
    """A client of an empty moto."""
    requests.post(f"{moto}/moto-api/reset", timeout=10).raise_for_status()
    return boto3.client(
        "s3", endpoint_url=moto, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )


@pytest.fixture
def bucket(s3):
    s3.create_bucket(Bucket="documents")
    return "documents"


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def content(request):
    return request.param


@pytest.mark.parametrize("packed", [True, False])
def test_every_byte_arrives(host, copy, stored, content, packed):
    host.content = gzip.compress(content, 1) if packed else content
    (result,) = copy()
    assert stored() == {"document": content}
    assert result.bytes == len(content)


def test_a_cut_document_leaves_nothing(host, copy, nothing_left, content):
    host.content = gzip.compress(content, 1)[:-1]
    with pytest.raises(DocumentError):
        copy()
    nothing_left()


def test_the_same_again_is_a_success(host, copy, stored, content):
    host.content = content
    assert copy(replace=False) == copy(replace=False)
    assert stored() == {"document": content}


def test_other_content_stays(host, copy, stored, s3, bucket, content):
    s3.put_object(Bucket=bucket, Key="document", Body=b"mine")
    host.content = content
    with pytest.raises(DocumentExistsError, match="exists with 4 bytes"):
        copy(replace=False)
    assert stored() == {"document": b"mine"}
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("operation", ["PutObject", "CreateMultipartUpload", "CompleteMultipartUpload"])
def test_what_was_carried_out_and_is_requested_again(host, copy, stored, s3, bucket, content, operation, replace):
    """botocore repeats a request whose response was lost."""
    s3.meta.events.register(f"needs-retry.s3.{operation}", lambda attempts, **_: 0 if attempts == 1 else None)
    host.content = content
    copy(replace=replace)
    assert stored() == {"document": content}
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_extra_args_that_the_other_server_does_not_know(host, copy, s3, bucket, content):
    host.content = content
    copy(extra_args={"StorageClass": "STANDARD_IA", "Tagging": "team=data", "ServerSideEncryption": "AES256"})
    head = s3.head_object(Bucket=bucket, Key="document")
    assert (head["StorageClass"], head["ServerSideEncryption"]) == ("STANDARD_IA", "AES256")
    tags = s3.get_object_tagging(Bucket=bucket, Key="document")["TagSet"]
    assert tags == [{"Key": "team", "Value": "data"}]


def test_a_customer_key_is_sent_with_every_part(host, copy, s3, bucket, content):
    """S3 wants the key again with each part (``SSE-C``)."""
    key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    sent = []
    s3.meta.events.register("before-call.s3.UploadPart", lambda params, **_: sent.append(params["headers"]))
    host.content = content
    copy(extra_args=key)
    assert all("x-amz-server-side-encryption-customer-key" in headers for headers in sent)
    assert len(sent) == (3 if content is LARGE else 0)


def test_a_small_document_in_motos_own_process(host, copy):
    """As tests of DAGs use it; within a process it takes bytes only, so no parts."""
    host.content = SMALL
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
        s3.create_bucket(Bucket="documents")
        copy(s3=s3)
        assert s3.get_object(Bucket="documents", Key="document")["Body"].read() == SMALL
