"""The routes of the Reconciliation API, and one that shows the company's books."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

if TYPE_CHECKING:
    from airflow_provider_amzbiz.sandbox.backend import Backend
    from airflow_provider_amzbiz.sandbox.responses import ApiResponse
    from airflow_provider_amzbiz.sandbox.state import SandboxAccount

    Operate = Callable[[Backend, Request, str, Callable[[SandboxAccount], ApiResponse]], Awaitable[Response]]

BASE = "/reconciliation/2021-01-08"


def reconciliation_router(sandbox: Backend, operate: Operate) -> APIRouter:
    """Return the routes.

    :param operate: authenticates the caller, takes a permit, and carries out an operation.
    """
    router = APIRouter()
    operations = sandbox.reconciliation

    @router.get(f"{BASE}/transactions")
    async def get_transactions(request: Request) -> Response:
        query = request.url.query
        return await operate(
            sandbox, request, "getTransactions", lambda account: operations.get_transactions(account, query)
        )

    @router.post(f"{BASE}/invoices")
    async def get_invoice_details(request: Request) -> Response:
        body = await request.body()
        return await operate(
            sandbox,
            request,
            "getInvoiceDetailsByOrderLineItems",
            lambda account: operations.get_invoice_details(account, body),
        )

    @router.post(f"{BASE}/invoices/batch/paymentDetails")
    async def get_invoice_payment_details(request: Request) -> Response:
        body = await request.body()
        return await operate(
            sandbox,
            request,
            "getBatchInvoicePaymentDetails",
            lambda account: operations.get_invoice_payment_details(account, body),
        )

    _add_books(router, sandbox)
    return router


def _add_books(router: APIRouter, sandbox: Backend) -> None:
    @router.get("/sandbox/company")
    async def company() -> dict[str, Any]:
        now = sandbox.clock.now()
        if sandbox.company is None:
            return {"transactions": [], "documents": []}
        return {
            "transactions": [each.transaction_id for each in sandbox.company.transactions_at(now)],
            "documents": [
                {
                    "number": each.number,
                    "kind": each.kind,
                    "marketplace_id": each.marketplace_id,
                    "currency": each.currency,
                    "total": f"{each.total:f}",
                }
                for each in sandbox.company.documents_at(now)
            ],
        }
