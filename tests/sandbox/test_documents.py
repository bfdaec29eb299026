"""What the documents hold."""

from __future__ import annotations

import gzip
import io
import re
import zipfile

import pytest

from airflow_provider_amzbiz.sandbox import RawDocument


def invoice_files(api, download, options):
    described = api.describe("GET_AB_INVOICE_PDF", options)
    assert described["compressionAlgorithm"] == "GZIP"
    with zipfile.ZipFile(io.BytesIO(gzip.decompress(download(described["url"]).raw_bytes))) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def lines(api, download, **options):
    described = api.describe("SANDBOX_ORDER_LINES", options)
    assert described["compressionAlgorithm"] == "GZIP"
    return gzip.decompress(download(described["url"]).raw_bytes)


def check_pdf(content):
    """Follow a PDF's own pointers, as a strict reader does; return its title."""
    assert content.startswith(b"%PDF-1.")
    assert content.endswith(b"%%EOF\n")
    table = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", content)[1])
    assert content[table:].startswith(b"xref\n0 ")
    count = int(re.match(rb"xref\n0 (\d+)\n", content[table:])[1])
    entries = content[table:].split(b"\n", 2)[2][: 20 * count]
    assert entries[:20] == b"0000000000 65535 f \n"
    for number in range(1, count):
        entry = entries[20 * number : 20 * number + 20]
        assert re.fullmatch(rb"\d{10} 00000 n \n", entry)
        assert content[int(entry[:10]) :].startswith(b"%d 0 obj\n" % number)
    trailer = content[content.index(b"trailer") :]
    assert int(re.search(rb"/Size (\d+)", trailer)[1]) == count
    assert re.search(rb"/Root \d+ 0 R", trailer)
    length, stream = re.search(rb"/Length (\d+) >>\nstream\n(.*?)\nendstream", content, re.DOTALL).groups()
    assert int(length) == len(stream)
    return re.search(rb"/Title \((.*?)\) /", content)[1].decode("latin-1"), stream.decode("latin-1")


@pytest.mark.parametrize(
    "options", [{"invoiceId": "INV-77"}, {"orderId": "INV-77", "documentType": "OrderSummary"}]
)
def test_an_invoice_is_a_valid_pdf_in_a_zip_in_a_gzip(shared_api, download, options):
    files = invoice_files(shared_api, download, options)
    ((name, content),) = files.items()
    assert name.endswith(".pdf")
    title, text = check_pdf(content)
    assert "INV-77" in title
    assert "INV-77" in text


def test_a_planted_invoice_needs_no_number(shared_api, download):
    report = shared_api.get(shared_api.sandbox.add_report("GET_AB_INVOICE_PDF")).json()
    url = shared_api.document(report["reportDocumentId"]).json()["url"]
    with zipfile.ZipFile(io.BytesIO(gzip.decompress(download(url).raw_bytes))) as archive:
        assert archive.namelist() == ["invoice.pdf"]


def test_an_invoice_with_signs_that_pdf_escapes(shared_api, download):
    (content,) = invoice_files(shared_api, download, {"invoiceId": "A(1)\\é"}).values()
    assert r"A\(1\)\\" in check_pdf(content)[1]


@pytest.mark.parametrize("invoice", ["../../evil", "/etc/passwd", "a/b", "C:\\x"])
def test_an_invoice_id_makes_no_path(shared_api, download, invoice):
    (name,) = invoice_files(shared_api, download, {"invoiceId": invoice})
    assert not re.search(r"[/\\:]|^\.\.", name)


def test_an_invoice_is_the_same_each_time_and_others_differ(shared_api, download):
    one, same, other = (
        download(shared_api.describe("GET_AB_INVOICE_PDF", {"invoiceId": name})["url"]).raw_bytes
        for name in ("1", "1", "2")
    )
    assert one == same != other


def test_several_invoices_in_one_zip(shared_api, download):
    files = invoice_files(shared_api, download, {"invoiceId": "MULTI-1"})
    assert len(files) == 3
    assert len({check_pdf(content)[0] for content in files.values()}) == 3


def test_a_fatal_reports_document_gives_a_reason(shared_api, download):
    described = shared_api.describe("GET_AB_INVOICE_PDF", {"invoiceId": "FATAL-DOC-1"})
    assert b"FATAL-DOC-1" in gzip.decompress(download(described["url"]).raw_bytes)


def test_order_lines_are_a_table(shared_api, download):
    content = lines(shared_api, download).decode()
    assert content.endswith("\n")
    header, *rows = [line.split("\t") for line in content.splitlines()]
    assert len(rows) >= 100
    assert {len(row) for row in rows} == {len(header)}
    assert len({tuple(row) for row in rows}) == len(rows)
    assert len(set(header)) == len(header)


@pytest.mark.parametrize("rows", [0, 1, 19_999, 20_000, 20_001, 45_000])
def test_rows(shared_api, download, rows):
    content = lines(shared_api, download, rows=str(rows))
    table = content.splitlines()
    assert len(table) == 1 + rows
    assert len(set(table)) == 1 + rows


@pytest.mark.parametrize("size", [1, 100, 5_000, 3_000_000, 10_000_000])
def test_bytes(shared_api, download, size):
    content = lines(shared_api, download, bytes=str(size))
    # It ends with the line that reaches the size.
    assert size <= len(content) <= size + 400
    assert content.endswith(b"\n")


def test_order_lines_compress_about_eight_times(shared_api, download):
    described = shared_api.describe("SANDBOX_ORDER_LINES", {"bytes": "10000000"})
    compressed = download(described["url"]).raw_bytes
    assert 6 <= len(gzip.decompress(compressed)) / len(compressed) <= 11


def test_order_lines_are_the_same_for_the_same_window(shared_api, download):
    def get(start, **options):
        window = {"dataStartTime": start, "dataEndTime": "2026-03-01T00:00:00Z"}
        described = shared_api.describe("SANDBOX_ORDER_LINES", options, **window)
        return download(described["url"]).raw_bytes

    one = get("2026-01-01T00:00:00Z", rows="10")
    assert one == get("2026-01-01T00:00:00Z", rows="10")
    assert one != get("2026-02-01T00:00:00Z", rows="10")
    assert one != get("2026-01-01T01:00:00Z", rows="10")


def test_a_download_in_pieces_is_the_download(shared_api, download):
    url = shared_api.describe("SANDBOX_ORDER_LINES", {"rows": "5000"})["url"]
    whole = download(url).raw_bytes
    half = len(whole) // 2
    pieces = [download(url, Range=part).raw_bytes for part in (f"bytes=0-{half - 1}", f"bytes={half}-")]
    assert b"".join(pieces) == whole


@pytest.mark.parametrize(
    "settings",
    [
        {"body": b"plain, but called gzip", "compression_algorithm": "GZIP"},
        {"body": gzip.compress(b"not called gzip"), "compression_algorithm": None},
        {"body": gzip.compress(b"one") + gzip.compress(b"two")},
        {"body": gzip.compress(b"cut short")[:-5]},
        {"body": b""},
        {"body": b"x", "content_type": "text/plain; charset=Cp1252"},
        {"body": b"x", "content_encoding": None},
        {"body": gzip.compress(b"x"), "content_encoding": "gzip"},
        {"body": b"x", "compression_algorithm": "ZSTD"},
        {"body": b"x", "etag": '"of-my-own"'},
    ],
)
def test_a_raw_document_is_served_as_it_is(shared_api, download, settings):
    document = RawDocument(**settings)
    shared_api.sandbox.script(document=document)
    described = shared_api.describe()
    assert described.get("compressionAlgorithm") == document.compression_algorithm
    assert ("compressionAlgorithm" in described) == (document.compression_algorithm is not None)
    response = download(described["url"])
    assert response.raw_bytes == document.body
    assert response.headers["Content-Type"] == document.content_type
    assert response.headers.get("Content-Encoding") == document.content_encoding
    if "etag" in settings:
        assert response.headers["ETag"] == settings["etag"]


def test_bytes_are_a_document(api, download):
    api.sandbox.script(document=b"just bytes")
    assert download(api.describe()["url"]).raw_bytes == b"just bytes"


def test_raw_documents_of_one_size_have_their_own_etags(api, download):
    etags = set()
    for body in (b"one", b"two"):
        api.sandbox.script(document=RawDocument(body=body))
        etags.add(download(api.describe()["url"]).headers["ETag"])
    assert len(etags) == 2


def test_a_fatal_report_can_have_a_raw_document(api, download):
    api.sandbox.script(outcome="FATAL_WITH_DOCUMENT", document=RawDocument(body=b"why"))
    described = api.describe()
    assert download(described["url"]).raw_bytes == b"why"


def test_what_a_download_gets_can_be_read(api, download):
    report_id = api.created()
    document_id = api.get(report_id).json()["reportDocumentId"]
    received = api.sandbox.document(report_id)
    assert received == download(api.document(document_id).json()["url"]).raw_bytes
