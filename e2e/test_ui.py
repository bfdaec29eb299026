"""What a user sees in the browser: the connection form and its test, and the tour of the demo (``make ui``).

With ``SCREENSHOTS=docs/_static`` in the environment, the tests also save the screenshots of the documentation.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, Response, expect, sync_playwright

from airflow_provider_amzbiz.sandbox import Sandbox
from dev.airflow_cluster import AirflowCluster

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).resolve().parent.parent
# How long a page may take on a busy machine.
PAGE_MILLISECONDS = 180_000
expect.set_options(timeout=PAGE_MILLISECONDS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium: nothing is downloaded."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1200, "height": 1500}, color_scheme="light")
    context.set_default_timeout(PAGE_MILLISECONDS)
    yield context.new_page()
    context.close()


def take_screenshot(of: Page | Locator, name: str) -> None:
    """Save a screenshot of a page or a part of it, if ``SCREENSHOTS`` names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        of.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")


def add_connection(page: Page, conn_id: str, connection: dict[str, Any]) -> None:
    """Fill in the form as a user does, and save it."""
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.locator("[name=connection_id]").fill(conn_id)
    form.get_by_role("combobox").click()
    page.keyboard.type("Amazon Bus")
    page.get_by_role("option", name="Amazon Business", exact=True).click()
    form.get_by_label("Client ID").fill(connection["login"])
    form.get_by_label("Client secret").fill(connection["password"])
    # See get_provider_info: Airflow 3.3.2 could not test it otherwise.
    form.locator("[name=port]").fill("0")
    # A user of the real API leaves Endpoint and Token URL empty, so the pictures do, too.
    take_screenshot(form, "connection-form")
    form.get_by_label("Endpoint").fill(connection["host"])
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    form.locator("#element_refresh_token").fill(connection["extra"]["refresh_token"])
    choose(page, form, "region", "eu")
    form.locator("#element_client_secret_created_on").fill("2026-10-31")
    take_screenshot(form, "connection-form-extra")
    form.locator("#element_token_url").fill(connection["extra"]["token_url"])
    form.get_by_role("button", name="Save").click()
    expect(form).to_be_hidden()


def choose(page: Page, form: Locator, field: str, value: str) -> None:
    form.locator(f"#element_{field}").click()
    page.get_by_role("option", name=value, exact=True).click()


def press_test(page: Page, conn_id: str) -> None:
    page.get_by_role("row", name=conn_id).get_by_role("button", name="Test Connection").click()


def edit(page: Page, conn_id: str) -> Locator:
    page.get_by_role("row", name=conn_id).get_by_role("button", name="Edit Connection").click()
    form = page.get_by_role("dialog")
    expect(form.locator("[name=password]")).to_be_visible()
    return form


def test_a_connection_typed_in_and_tested(airflow: AirflowCluster, sandbox: Sandbox, page: Page) -> None:
    connection = sandbox.connection
    secrets = [connection["password"], connection["extra"]["refresh_token"]]
    responses: list[Response] = []
    page.goto(f"{airflow.url}/connections")

    add_connection(page, "amazon_business_eu", connection)
    press_test(page, "amazon_business_eu")

    expect(page.get_by_text("Test Connection Successful")).to_be_visible()
    expect(page.get_by_text(f"{sandbox.url} accepts it")).to_be_visible()
    assert [call.operation for call in sandbox.calls] == ["token", "getReport"]
    page.set_viewport_size({"width": 1200, "height": 620})
    take_screenshot(page, "connection-test")
    page.set_viewport_size({"width": 1200, "height": 1500})

    # Only once it is saved must the server keep the secrets to itself.
    page.on("response", lambda response: responses.append(response) if "/connections" in response.url else None)
    page.reload()
    form = edit(page, "amazon_business_eu")
    expect(form.locator("[name=password]")).to_have_value("***")
    expect(form.get_by_label("Endpoint")).to_have_value(connection["host"])
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    expect(form.locator("#element_refresh_token")).to_have_value("***")
    assert responses
    for text in [page.content(), *(response.text() for response in responses)]:
        for secret in secrets:
            assert secret not in text

    form.get_by_role("button", name="Standard Fields", exact=True).click()
    form.locator("[name=password]").fill("not-the-secret")
    form.get_by_role("button", name="Save").click()
    expect(form).to_be_hidden()
    press_test(page, "amazon_business_eu")

    expect(page.get_by_text("Test Connection Failed")).to_be_visible()
    expect(page.get_by_text("check Client ID and Client secret")).to_be_visible()


@pytest.fixture
def tour(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``make ui``: its process, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_amzbiz.demo", "--ui"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout
        for line in process.stdout:
            if found := re.match(r" *[\d.]+ s  Airflow is at (\S+)", line):
                yield process, found[1]
                break
        else:
            raise AssertionError("it did not start")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_the_tour_of_make_ui(tour: tuple[subprocess.Popen[str], str], page: Page, tmp_path: Path) -> None:
    process, url = tour
    assert process.stdout
    page.goto(f"{url}/dags/example_invoices_to_s3")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Trigger").click()
    expect(page).to_have_url(re.compile("/runs/manual__"))

    arrived: list[str] = []
    while len(arrived) < 3:
        line = process.stdout.readline()
        assert line, "it ended"
        if line.startswith("Arrived in S3"):
            arrived.append(line)
    assert all("s3://amazon-business/invoices/" in line for line in arrived)

    page.set_viewport_size({"width": 1400, "height": 700})
    # The run, the list of invoices, and three tasks for each of them.
    expect(page.get_by_text("Success", exact=True)).to_have_count(11)
    page.get_by_role("button", name="Show Graph").click()
    page.get_by_role("button", name="Expand all task groups").click()
    expect(page.get_by_text("ReportStatusSensor").first).to_be_visible()
    page.get_by_role("button", name="Fit View").click()
    take_screenshot(page, "example-run")

    page.goto(f"{url}/connections")
    press_test(page, "amazon_business_default")
    expect(page.get_by_text("Test Connection Successful")).to_be_visible()

    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert list(tmp_path.glob("amzbiz-*")) == []
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)
