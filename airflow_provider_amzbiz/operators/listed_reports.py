"""The pages of a listing that a task has read, in the few bytes that a deferral may keep."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_amzbiz.batch.running import PACKED_BYTES
from airflow_provider_amzbiz.client.page_tokens import PageTokens
from airflow_provider_amzbiz.exceptions import AmazonBusinessError, translated_errors


class ListedReports:
    """What was listed up to some page.

    :ivar reports: as :meth:`.Report.to_dict` returns them.
    :ivar next_token: token of the next page; None before the first page and after the last one.
    :ivar is_resumed: whether no page was read since a deferral, so that the token may be old.
    """

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.next_token: str | None = None
        self.is_resumed = False
        self._has_begun = False
        self._tokens = PageTokens()

    def add(self, reports: Sequence[dict[str, Any]], next_token: str | None) -> None:
        """Add a page.

        :param next_token: token of the next page, None on the last one.
        :raises AmazonBusinessError: the token came before, so that the listing would never end.
        """
        with translated_errors():
            self._tokens.check(next_token)
        self.reports += reports
        self.next_token = next_token
        self.is_resumed, self._has_begun = False, True

    def is_complete(self, max_reports: int | None) -> bool:
        """Return whether nothing is left to read."""
        if self._has_begun and self.next_token is None:
            return True
        return max_reports is not None and len(self.reports) >= max_reports

    def packed(self) -> dict[str, Any] | None:
        """Return it for a deferral, JSON-safe; None if it is too large for a row of Airflow's database.

        Equal fields of many reports compress to a quarter or less.
        """
        if not self._has_begun:
            return {}
        content = zlib.compress(json.dumps(self.reports).encode(), 9)
        packed = {
            "reports": base64.b64encode(content).decode(),
            "next_token": self.next_token,
            "seen": sorted(self._tokens.seen),
        }
        return packed if len(json.dumps(packed)) <= PACKED_BYTES else None

    @classmethod
    def unpacked(cls, state: Mapping[str, Any]) -> ListedReports:
        """Return what :meth:`packed` has packed.

        :raises AmazonBusinessError: it is damaged.
        """
        listed = cls()
        if not state:
            return listed
        try:
            reports, token = json.loads(zlib.decompress(base64.b64decode(state["reports"]))), state["next_token"]
            # Earlier releases did not keep them.
            tokens = PageTokens(state.get("seen", ()))
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise AmazonBusinessError(
                f"The deferral brought damaged pages of a listing ({type(error).__name__}). Clear the task to "
                "list again from the first page"
            ) from None
        listed.add(reports, token)
        listed.is_resumed, listed._tokens = True, tokens
        return listed
