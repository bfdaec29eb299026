"""Recognising a listing that never ends, because the API returns page tokens that it had returned before."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from airflow_provider_amzbiz.client.errors import UnavailableError


class PageTokens:
    """The page tokens of one reading of a listing; whoever follows them checks each one here.

    :ivar seen: a digest of each: a token may be long, and a deferral keeps few bytes.
    """

    def __init__(
        self, seen: Iterable[str] = (), *, operation: str = "getReports", field: str = "nextToken"
    ) -> None:
        """Begin a reading, or continue one.

        :param seen: digests of the tokens until now; by default none.
        :param operation: the operation that is read, by default ``getReports``.
        :param field: the token's name in the response, by default ``nextToken``.
        """
        self.seen = set(seen)
        self._operation = operation
        self._field = field

    def check(self, token: str | None) -> None:
        """Take note of the token of the next page, None on the last one.

        :raises UnavailableError: it came before, so that the pages behind it cannot be reached.
        """
        if token is None:
            return
        digest = blake2b(token.encode(), digest_size=8).hexdigest()
        if digest in self.seen:
            raise UnavailableError(
                f"{self._operation} returned the same {self._field} again", operation=self._operation
            )
        self.seen.add(digest)
