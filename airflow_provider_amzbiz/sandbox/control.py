"""The sandbox's own HTTP interface, for those who run it as a process of its own."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request

from airflow_provider_amzbiz.sandbox.documents import RawDocument
from airflow_provider_amzbiz.sandbox.faults import fault_from_json

if TYPE_CHECKING:
    from airflow_provider_amzbiz.sandbox.server import Sandbox


def control_router(sandbox: Sandbox) -> APIRouter:
    """Return the routes below ``/sandbox``; they need no token."""
    router = APIRouter(prefix="/sandbox")

    @router.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "healthy", "time": sandbox.clock.now().isoformat()}

    @router.get("/calls")
    async def calls() -> list[dict[str, Any]]:
        # Neither headers nor queries: they hold tokens and signatures.
        return [
            {"operation": each.operation, "method": each.method, "path": each.path, "status": each.status}
            for each in sandbox.calls
        ]

    @router.get("/reports")
    async def reports() -> list[dict[str, Any]]:
        return [{**each.to_api(), "reportOptions": each.report_options} for each in sandbox.reports.values()]

    @router.post("/faults")
    async def inject(request: Request) -> dict[str, str]:
        body = await request.body()
        with _understood():
            sandbox.inject(fault_from_json(body))
        return {"status": "injected"}

    @router.delete("/faults")
    async def clear() -> dict[str, str]:
        sandbox.clear_faults()
        return {"status": "cleared"}

    @router.post("/script")
    async def script(request: Request) -> dict[str, str]:
        body = await request.body()
        with _understood():
            sandbox.script(**_script(json.loads(body)))
        return {"status": "scripted"}

    @router.post("/invoices")
    async def issue(request: Request) -> dict[str, str]:
        body = await request.body()
        with _understood():
            sandbox.issue(*_ids(json.loads(body)["issue"]))
        return {"status": "issued"}

    @router.post("/clock")
    async def clock(request: Request) -> dict[str, str]:
        body = await request.body()
        with _understood():
            sandbox.clock.advance(float(json.loads(body)["advance"]))
        return {"time": sandbox.clock.now().isoformat()}

    @router.post("/expire-tokens")
    async def expire() -> dict[str, str]:
        sandbox.expire_tokens()
        return {"status": "expired"}

    return router


@contextmanager
def _understood() -> Iterator[None]:
    """Answer 400 to a body that cannot be what is asked for."""
    try:
        yield
    except (TypeError, ValueError, KeyError) as error:
        raise HTTPException(400, f"not understood: {error}") from error


def _ids(given: Any) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise TypeError("issue must be a list of strings")
    return given


def _script(given: dict[str, Any]) -> dict[str, Any]:
    # JSON has no bytes, so a document's body comes in base64.
    if document := given.get("document"):
        body = base64.b64decode(document["body"], validate=True)
        return {**given, "document": RawDocument(**{**document, "body": body})}
    return given
