"""Buckets and access points, and the URIs of their objects."""

from __future__ import annotations

import random

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from airflow_provider_amzbiz.documents.s3_location import access_point, is_bucket, split_s3_uri
from tests.documents.s3_faults import RawBody

SMALL = b"order\tamount\n" * 100
LARGE = random.Random(7).randbytes(9 * 1024**2)
POINT = "arn:aws:s3:us-west-2:123456789012:accesspoint/invoices"
ARNS = [
    POINT,
    "arn:aws:s3:us-west-2:123456789012:accesspoint:invoices",
    "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/invoices",
    "arn:aws-us-gov:s3:us-gov-west-1:123456789012:accesspoint/invoices",
    "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap",
    "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01ac5d28a6a232904/accesspoint/invoices",
    "arn:aws:s3-outposts:us-west-2:123456789012:outpost:op-01ac5d28a6a232904:accesspoint:invoices",
]
# The host that boto3 asks for an access point, and how the path begins there.
HOSTS = {
    ARNS[0]: "invoices-123456789012.s3-accesspoint.us-west-2.amazonaws.com/",
    ARNS[1]: "invoices-123456789012.s3-accesspoint.us-west-2.amazonaws.com/",
    ARNS[5]: "invoices-123456789012.op-01ac5d28a6a232904.s3-outposts.us-west-2.amazonaws.com/",
    "invoices-metadata-s3alias": "invoices-metadata-s3alias.s3.us-west-2.amazonaws.com/",
}


@pytest.mark.parametrize("bucket", ["my-bucket", "a.b_C", "tenant:bucket", "invoices-x1-s3alias", *ARNS])
@pytest.mark.parametrize("key", ["k", "2026/11/x.pdf", "a b?c#d", "accesspoint/x", "arn:aws:s3:::x/y", "a//b"])
def test_a_uri_has_a_bucket_and_a_key(bucket, key):
    assert is_bucket(bucket)
    assert split_s3_uri(f"s3://{bucket}/{key}") == (bucket, key)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket",
        "s3://bucket/",
        "s3:///key",
        "https://bucket/key",
        "bucket/key",
        "",
        f"s3://{POINT}",
        f"s3://{POINT}/",
        "s3://arn:aws:s3:us-west-2:123456789012:accesspoint/",
        "s3://arn:aws:s3:::bucket/key",
        "s3://arn:aws:s3:us-west-2:123:accesspoint/invoices/key",
    ],
)
def test_other_texts_have_none(uri):
    assert split_s3_uri(uri) is None


@pytest.mark.parametrize("name", ["", "a/b", "a b", "arn:aws:s3:::bucket", f"{POINT}/key", "{bucket}"])
def test_other_names_are_no_buckets(name):
    assert not is_bucket(name)


@pytest.mark.parametrize(
    ("bucket", "expected"),
    [
        (POINT, ("us-west-2", "123456789012", "invoices")),
        (ARNS[1], ("us-west-2", "123456789012", "invoices")),
        (ARNS[4], None),
        (ARNS[5], None),
        ("bucket", None),
    ],
)
def test_an_access_point_has_region_account_and_name(bucket, expected):
    assert access_point(bucket) == expected


@pytest.mark.parametrize("bucket", HOSTS)
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_boto3_accepts_an_access_point_as_a_bucket(host, copy, bucket, content):
    """In all requests of a transfer, which would go to Amazon."""
    client = boto3.client("s3", region_name="us-west-2", aws_access_key_id="x", aws_secret_access_key="x")
    asked = []

    def respond(request, **_):
        asked.append(request.url)
        query = request.url.partition("?")[2]
        body = b""
        if request.method == "GET":
            body = b"<ListMultipartUploadsResult/>"
        elif query == "uploads":
            body = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
        elif request.method == "POST":
            body = b'<CompleteMultipartUploadResult><ETag>"e-2"</ETag></CompleteMultipartUploadResult>'
        return AWSResponse(request.url, 200, {"ETag": '"e"'}, RawBody(body))

    client.meta.events.register("before-send.s3", respond)
    host.content = content
    (stored,) = copy(s3=client, bucket=bucket, key=lambda _: "2026/x y.tsv")
    assert stored.uri == f"s3://{bucket}/2026/x y.tsv"
    assert asked
    assert [url for url in asked if not url.startswith(f"https://{HOSTS[bucket]}")] == []
    assert f"https://{HOSTS[bucket]}2026/x%20y.tsv" in {url.partition("?")[0] for url in asked}
