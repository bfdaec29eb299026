"""Documents for tests."""

from __future__ import annotations

import base64
import io
import warnings
import zipfile
import zlib


def zipped(*entries, method=zipfile.ZIP_DEFLATED):
    """Return a ZIP of these names and contents, in which a name may occur twice."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def crc32(content):
    """Return the checksum in S3's form."""
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()
