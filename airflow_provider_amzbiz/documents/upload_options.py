"""How a document is unpacked and stored: what a user of a transfer may choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

UNPACK_MODES = ("auto", "gzip", "none")
# Default of the largest decoded document: 50 GiB.
MAX_BYTES = 50 * 1024**3


@dataclass(frozen=True)
class UploadOptions:
    """The options of an upload, which travel as one object from the operator to each request.

    :ivar unpack: ``"auto"`` undoes gzip and opens a ZIP, ``"gzip"`` undoes gzip only, ``"none"`` keeps the bytes.
    :ivar replace: whether an object of other content under the key is replaced.
    :ivar sha256: whether to compute the SHA-256.
    :ivar rows: whether to count the lines of text.
    :ivar content_type: of the objects; None derives it from the document.
    :ivar encoding: the charset of text, which is then stored as UTF-8: a name, or ``"declared"`` for the one in
        the document's Content-Type. None, and all content that is not text, keeps the bytes.
    :ivar extra_args: more parameters of S3's PutObject and CreateMultipartUpload. Not in the repr, because an
        encryption key may be among them.
    :ivar max_bytes: decoded bytes above which the document is refused.
    """

    unpack: str = "auto"
    replace: bool = True
    sha256: bool = True
    rows: bool = False
    content_type: str | None = None
    encoding: str | None = None
    extra_args: Mapping[str, Any] = field(default_factory=dict, repr=False)
    max_bytes: int = MAX_BYTES
