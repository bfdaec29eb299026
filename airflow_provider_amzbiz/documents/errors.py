"""What can go wrong with a document. No message ever contains a presigned URL."""

from __future__ import annotations


class DocumentError(Exception):
    """A document was not stored whole.

    :ivar permanent: whether a retry cannot succeed.
    """

    permanent = False


class DocumentDownloadError(DocumentError):
    """The document host did not deliver, after all attempts."""


class DocumentGoneError(DocumentDownloadError):
    """The document host no longer has the document."""


class UnsafeDocumentUrlError(DocumentDownloadError):
    """The document's URL, or a redirect of its host, may not be followed."""

    permanent = True


class DocumentChangedError(DocumentError):
    """The document has changed since its download began, which must start from scratch."""


class TruncatedDocumentError(DocumentError):
    """The compressed content ends too early."""


class CorruptDocumentError(DocumentError):
    """A checksum or the compressed format is wrong."""


class UnsupportedDocumentError(DocumentError):
    """The document cannot be unpacked or converted as requested."""

    permanent = True


class UndecodableDocumentError(DocumentError):
    """The text has bytes that are not a character of its charset."""

    permanent = True


class DocumentTooLargeError(DocumentError):
    """The decoded content is larger than allowed, or expands as only a bomb does."""

    permanent = True


class DocumentStorageError(DocumentError):
    """A request to S3 failed.

    :ivar code: S3's error code, such as ``NoSuchBucket``; None if there is none.
    :ivar status: HTTP status of S3's response; None if there was no response.
    :ivar may_have_succeeded: whether S3 may have carried out the request nevertheless.
    :param permanent: whether a retry cannot succeed, for a reason that S3 did not give.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        permanent: bool = False,
        may_have_succeeded: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.may_have_succeeded = may_have_succeeded
        self.permanent = permanent or code in _PERMANENT_CODES


class WorkerError(DocumentError):
    """The worker itself failed, such as with a full disk or a missing CA bundle."""


class DocumentExistsError(DocumentError):
    """The key has an object with other content, which is not to be replaced."""

    permanent = True


# What only another report can help against, where it comes again.
USELESS = (CorruptDocumentError, DocumentGoneError, TruncatedDocumentError)
_PERMANENT_CODES = frozenset(
    {
        # A HEAD response has no body, so its code is the status.
        "403",
        "AccessDenied",
        "InvalidAccessKeyId",
        "InvalidArgument",
        "InvalidBucketName",
        "InvalidStorageClass",
        "KMS.DisabledException",
        "KMS.NotFoundException",
        "KeyTooLongError",
        "NoSuchBucket",
        "PermanentRedirect",
        "SignatureDoesNotMatch",
    }
)
