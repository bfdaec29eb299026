"""For a deadline: a run that takes too long."""

from __future__ import annotations

import asyncio
from typing import Any

import requests
from airflow.sdk import BaseHook
from amazon_business_alerts import WEBHOOK


async def late(context: Any, note: str) -> None:
    """Send that a run is late; runs in the triggerer, so it must not block."""
    run = context["dag_run"]
    connection = await BaseHook.aget_connection(WEBHOOK)
    text = f"{run['dag_id']} is late, run {run['dag_run_id']}\n{note}"
    url = f"{connection.host}/{connection.password}"
    response = await asyncio.to_thread(requests.post, url, json={"text": text}, timeout=10)
    response.raise_for_status()
