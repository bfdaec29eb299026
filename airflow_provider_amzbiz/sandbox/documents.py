"""The content of the sandbox's reports: an order-lines TSV of any size, and invoices as PDF."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from isal import igzip, isal_zlib

_COLUMNS = (
    "order_date", "order_id", "line", "asin", "title", "category", "quantity", "unit_price", "currency",
    "purchase_order", "cost_center", "seller", "tax_rate", "tax", "total", "status",
)  # fmt: skip
_TITLES = (
    "Copy paper A4 80 g, 2500 sheets", "Ballpoint pens, blue, box of 50", "Nitrile gloves, size L",
    "LED desk lamp with clamp", "USB-C docking station, 11 ports", "Ergonomic office chair, black",
    "Whiteboard markers, assorted", "Coffee beans, 1 kg, medium roast", "Network cable Cat 6a, 5 m",
)  # fmt: skip
_SELLERS = ("Office Depot Direct", "Northwind Traders", "Contoso Supplies", "Fabrikam Industrial")
_BLOCK_ROWS = 20_000
# Placeholder in a block of rows for the number of the block's repetition.
_BLOCK_NUMBER = b"@@@@@@@"
DEFAULT_ROWS = 400


@dataclass(frozen=True)
class RawDocument:
    """A document that is served as it is, so its body need not match its metadata.

    :param content_encoding: header of the download, by default ``identity``, which S3 sends for compressed
        documents too; None leaves it out.
    :param etag: with its quotes; None for a generated one.
    """

    body: bytes
    compression_algorithm: str | None = "GZIP"
    content_type: str = "text/plain"
    content_encoding: str | None = "identity"
    etag: str | None = None


def write_order_lines(path: Path, seed: str, *, rows: int | None, size: int | None) -> None:
    """Write a gzipped TSV, the same for the same seed.

    :param rows: how many lines after the header; or
    :param size: minimum decoded bytes; the document ends with the line that reaches them.
    """
    compressor = isal_zlib.compressobj(level=2, wbits=31)
    with path.open("wb") as file:
        for part in _order_lines(seed, rows, size):
            file.write(compressor.compress(part))
        file.write(compressor.flush())


def _order_lines(seed: str, rows: int | None, size: int | None) -> Iterator[bytes]:
    header = ("\t".join(_COLUMNS) + "\n").encode()
    yield header
    left_rows = DEFAULT_ROWS if rows is None and size is None else rows
    left_bytes = None if size is None else size - len(header)
    block = _block(seed, min(left_rows or _BLOCK_ROWS, _BLOCK_ROWS))
    number = 0
    while (left_rows or 0) > 0 or (left_bytes or 0) > 0:
        part = block.replace(_BLOCK_NUMBER, b"%07d" % number)
        if left_rows is not None:
            part = b"".join(part.splitlines(keepends=True)[:left_rows])
            left_rows -= _BLOCK_ROWS
        elif left_bytes is not None:
            if left_bytes < len(part):
                part = part[: part.index(b"\n", max(left_bytes - 1, 0)) + 1]
            left_bytes -= len(part)
        yield part
        number += 1


def _block(seed: str, rows: int) -> bytes:
    # A fixed sequence of digits per seed, so that every run and every Range request returns the same bytes.
    digits = hashlib.shake_128(seed.encode()).digest(2 * rows)
    lines = []
    for row in range(rows):
        one, two = digits[2 * row : 2 * row + 2]
        # Price, code and seller depend on the product, as in real orders, which compress as well.
        product, quantity = one % 9, 1 + two % 12
        cents = 199 + 257 * (13 * product + 5)
        total = quantity * cents
        lines.append(
            f"2026-{1 + row // 28 % 12:02d}-{1 + row % 28:02d}\t112-{_BLOCK_NUMBER.decode()}-{row:07d}"
            f"\t{1 + two % 3}\tB0{product + 10}X{17 * product:03d}Q\t{_TITLES[product]}\tOffice Products"
            f"\t{quantity}\t{cents / 100:.2f}\tUSD\tPO-{4500 + one // 9}\tCC-{100 + two // 22}"
            f"\t{_SELLERS[product % 4]}\t0.0825\t{total * 825 / 1_000_000:.2f}\t{total / 100:.2f}\tShipped\n"
        )
    return "".join(lines).encode()


def invoice(names: list[str]) -> bytes:
    """Return gzip(zip(pdf)), as the API packs invoices, with one PDF per name."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in names:
            packed.writestr(zipfile.ZipInfo(_file_name(name)), pdf(f"Invoice {name}"))
    return _gzipped(archive.getvalue())


def _file_name(invoice: str) -> str:
    # The id comes from the caller and must not become a path of whoever unpacks the archive.
    return re.sub(r"[^\w.-]|\.(?=\.)", "_", invoice.lstrip("."), flags=re.ASCII) + ".pdf"


def pdf(title: str) -> bytes:
    """Return a one-page PDF whose title and text are ``title``."""
    escaped = "".join("\\" + each if each in "()\\" else each for each in title)
    text = f"BT /F1 24 Tf 72 720 Td ({escaped}) Tj ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(text.encode('latin-1', 'replace'))} >>\nstream\n{text}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        f"<< /Title ({escaped}) /Producer (Amazon Business API sandbox) >>",
    ]
    out = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n".encode("latin-1", "replace")
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    return out + (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
        f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info 6 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    ).encode("latin-1")


def fatal_reason(options: Mapping[str, str]) -> bytes:
    """Return the gzipped document that explains why a report is FATAL."""
    return _gzipped(f"The report cannot be generated for {dict(options)}.\n".encode())


def _gzipped(content: bytes) -> bytes:
    # Without a timestamp, so that the same report has the same bytes.
    compressed: bytes = igzip.compress(content, mtime=0)
    return compressed
