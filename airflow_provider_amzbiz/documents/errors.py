"""What can go wrong between a presigned URL and S3. No text here ever holds the URL: it is a secret."""

from __future__ import annotations


class DocumentError(Exception):
    """A document did not arrive whole in S3, and there is no object of it.

    :cvar permanent: True where running the same transfer again cannot help.
    """

    permanent = False


class DocumentDownloadError(DocumentError):
    """The document's host gave no good answer, after every try that made sense."""


class DocumentChangedError(DocumentDownloadError):
    """The document is not the one that the first bytes came from, so the rest cannot be joined to them."""


class UnsafeDocumentUrlError(DocumentError):
    """The URL, or a redirect it was answered with, leads where a document must not come from."""

    permanent = True


class TruncatedDocumentError(DocumentError):
    """The document ends too early."""


class CorruptDocumentError(DocumentError):
    """The document's own checksums, lengths or structure do not add up."""


class UnsupportedDocumentError(DocumentError):
    """The archive cannot be opened as asked: encrypted, an unknown compression, no files, names that collide."""

    permanent = True


class DocumentTooLargeError(DocumentError):
    """The document is larger than allowed, or grows as no honest document does."""

    permanent = True


class DocumentStorageError(DocumentError):
    """S3, or the temporary folder, did not take the document this time."""


class DocumentStorageRefusedError(DocumentStorageError):
    """S3 refuses the document as such: no such bucket, access denied, a wrong secret."""

    permanent = True


class DocumentExistsError(DocumentError):
    """Other content lies under the key already, and it may not be replaced."""

    permanent = True
