"""The sandbox's own HTTP interface, for those who run it as a process of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

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
        sandbox.inject(fault_from_json(await request.body()))
        return {"status": "injected"}

    @router.delete("/faults")
    async def clear() -> dict[str, str]:
        sandbox.clear_faults()
        return {"status": "cleared"}

    @router.post("/script")
    async def script(request: Request) -> dict[str, str]:
        sandbox.script(**json.loads(await request.body()))
        return {"status": "scripted"}

    @router.post("/clock")
    async def clock(request: Request) -> dict[str, str]:
        sandbox.clock.advance(float(json.loads(await request.body())["advance"]))
        return {"time": sandbox.clock.now().isoformat()}

    @router.post("/expire-tokens")
    async def expire() -> dict[str, str]:
        sandbox.expire_tokens()
        return {"status": "expired"}

    return router
