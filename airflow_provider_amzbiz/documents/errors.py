"""What can go wrong with a document. None of the messages ever holds a presigned URL."""

from __future__ import annotations


class DocumentError(Exception):
    """A document did not make its whole way.

    :ivar permanent: True when doing the same again cannot succeed.
    """

    permanent = False


class DocumentDownloadError(DocumentError):
    """The document host did not deliver, after all attempts."""


class UnsafeDocumentUrlError(DocumentDownloadError):
    """The document's URL, or where its host redirects to, is none that may be followed."""

    permanent = True


class DocumentChangedError(DocumentError):
    """The document is not the same any more as when its download began, so it has to begin anew."""


class TruncatedDocumentError(DocumentError):
    """The compressed content ends too early."""


class CorruptDocumentError(DocumentError):
    """A checksum or the compressed format is wrong."""


class UnsupportedDocumentError(DocumentError):
    """The document is of a kind that cannot be unpacked as asked."""

    permanent = True


class UndecodableDocumentError(DocumentError):
    """The text has bytes that are no character of its charset."""

    permanent = True


class DocumentTooLargeError(DocumentError):
    """The decoded content is larger than allowed, or grows as only a bomb does."""

    permanent = True


class DocumentStorageError(DocumentError):
    """S3 did not take the object.

    :ivar code: S3's error code, such as ``NoSuchBucket``; None where it gave none.
    :ivar status: HTTP status of S3's response; None where there was none.
    :ivar may_have_succeeded: whether S3 may have carried it out all the same.
    :param permanent: whether trying again cannot help, for a reason that is not S3's.
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
    """Something on the worker's own machine is in the way, such as a full disk or a missing CA bundle."""


class DocumentExistsError(DocumentError):
    """There is an object of other content under the key, and it is not to be replaced."""

    permanent = True


_PERMANENT_CODES = frozenset(
    {
        # A HEAD has no body to name the code in.
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
