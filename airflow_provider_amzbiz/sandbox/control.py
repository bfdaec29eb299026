"""The sandbox's own HTTP interface, for a sandbox that runs as a process of its own."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter, HTTPException, Request

from airflow_provider_amzbiz.sandbox.backend import Backend
from airflow_provider_amzbiz.sandbox.documents import RawDocument
from airflow_provider_amzbiz.sandbox.faults import fault_from_json


def control_router(sandbox: Backend) -> APIRouter:
    """Return the routes below ``/sandbox``; they need no token."""
    router = APIRouter(prefix="/sandbox")
    _add_views(router, sandbox)
    _add_actions(router, sandbox)
    return router


def _add_views(router: APIRouter, sandbox: Backend) -> None:
    """Add the routes that show what happened."""

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


def _add_actions(router: APIRouter, sandbox: Backend) -> None:
    """Add the routes that make things happen."""

    @router.post("/faults")
    async def inject(request: Request) -> dict[str, str]:
        body = await request.body()
        with _valid_body():
            sandbox.inject(fault_from_json(body))
        return {"status": "injected"}

    @router.delete("/faults")
    async def clear() -> dict[str, str]:
        sandbox.clear_faults()
        return {"status": "cleared"}

    @router.post("/script")
    async def script(request: Request) -> dict[str, str]:
        body = await request.body()
        with _valid_body():
            sandbox.script(**_script(json.loads(body)))
        return {"status": "scripted"}

    @router.post("/invoices")
    async def issue(request: Request) -> dict[str, str]:
        body = await request.body()
        with _valid_body():
            sandbox.issue(*_ids(json.loads(body)["issue"]))
        return {"status": "issued"}

    @router.post("/clock")
    async def clock(request: Request) -> dict[str, str]:
        body = await request.body()
        with _valid_body():
            sandbox.clock.advance(float(json.loads(body)["advance"]))
        return {"time": sandbox.clock.now().isoformat()}

    @router.post("/expire-tokens")
    async def expire() -> dict[str, str]:
        sandbox.expire_tokens()
        return {"status": "expired"}


@contextmanager
def _valid_body() -> Iterator[None]:
    """Return 400 for an invalid body."""
    try:
        yield
    except (TypeError, ValueError, KeyError) as error:
        raise HTTPException(400, f"invalid body: {error}") from error


def _ids(given: Any) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise TypeError("issue must be a list of strings")
    return given


def _script(given: dict[str, Any]) -> dict[str, Any]:
    # JSON has no bytes, so a document's body is in base64.
    if document := given.get("document"):
        body = base64.b64decode(document["body"], validate=True)
        return {**given, "document": RawDocument(**{**document, "body": body})}
    return given
