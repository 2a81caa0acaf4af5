"""The page in a real browser: from the upload to the signed report, with interruptions."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import cv2
import pytest

from hemaest.datasets import make_smear

from .conftest import field_file, open_store, some_cell

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser):
    problems: list[str] = []

    def make(address, observer, **options):
        page = browser.new_context(viewport={"width": 1280, "height": 860}, **options).new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda m: problems.append(m.text) if "Content Security" in m.text else None,
        )
        page.set_default_timeout(60_000)
        visit(page, address)
        page.fill("#observer", observer)
        page.keyboard.press("Tab")
        return page

    yield make
    assert problems == []


def visit(page, address):
    page.goto(address)
    page.wait_for_selector("body[data-ready]")


def keep(page, name):
    """Keep a screenshot where a folder for them is named."""
    if folder := os.environ.get("HEMAEST_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def prepared(state, kinds, name="smear"):
    """Write a session with an analyzed field of these cells; return its name."""
    store = open_store(state)
    session = store.new_session(name)
    path = field_file(state / f"{session}.png", (400, 600))
    with closing(sqlite3.connect(state / "review.sqlite")) as file:
        # as being worked on already, so that no process of the server takes it
        number = file.execute(
            "INSERT INTO field (session, name, path, state) VALUES (?, 'field.png', ?, 'working')",
            (session, str(path)),
        ).lastrowid
        file.commit()
    cells = [
        some_cell(kind, x0=5.0 + 28 * (i % 20), y0=5.0 + 28 * (i // 20 % 13),
                  confidence=0.5 + 0.4 * (i % 7) / 7)
        for i, kind in enumerate(kinds)
    ]  # fmt: skip
    store.finish(number, {"width": 600, "height": 400, "warnings": [], "cells": cells})
    store.close()
    return session


def labels(state, session, observer):
    store = open_store(state)
    found = [c["label"] for c in store.cells(session, observer)]
    store.close()
    return found


@pytest.mark.slow
def test_from_upload_to_signed_pdf_with_a_reload_and_a_killed_server(server, new_page, tmp_path):
    from playwright.sync_api import expect

    fields = []
    for i in range(2):
        fields.append(tmp_path / f"field {i}.png")
        cv2.imwrite(str(fields[-1]), make_smear((420, 520), random_state=i).image[..., ::-1])
    notes = tmp_path / "notes.png"
    notes.write_text("no image")
    store = open_store(server.state)
    session = store.new_session("ward 3")
    page = new_page(f"{server.address}#{session}/start", "Dr. Ada")
    keep(page, "1-empty")
    page.set_input_files("#files", [*fields, notes])
    page.wait_for_selector("#file-list .state.refused")
    keep(page, "2-working")
    expect(page.locator("#file-list .state.done")).to_have_count(2, timeout=240_000)
    keep(page, "3-done")

    page.click("#tab-smear")
    page.wait_for_timeout(500)
    keep(page, "4-smear")
    page.click("#tab-gallery")
    page.wait_for_selector(".tile")
    n_cells = page.locator(".tile").count()
    assert n_cells >= 2
    first = page.locator(".tile").first.get_attribute("data-cell")
    page.locator(".tile").first.click()
    page.keyboard.press("6")  # by keyboard: a basophil
    page.wait_for_selector(f".bin[data-type='basophil'] [data-cell='{first}']")
    page.keyboard.press("Control+z")
    page.wait_for_selector(".bin[data-type='basophil'] .tiles:empty", state="attached")
    page.keyboard.press("Control+y")
    page.wait_for_selector(f".bin[data-type='basophil'] [data-cell='{first}']")

    page.reload()
    page.wait_for_selector(f".bin[data-type='basophil'] [data-cell='{first}']")
    server.kill()
    page.locator(f"[data-cell='{first}']").click()
    page.keyboard.press("0")  # given while the server is away: a blast
    page.wait_for_selector("#notice p")
    keep(page, "5-offline")
    server.start()
    page.wait_for_selector("#notice:empty", state="attached")

    page.drag_and_drop(f"[data-cell='{first}']", ".bin[data-type='eosinophil']")  # by mouse
    page.wait_for_selector(f".bin[data-type='eosinophil'] [data-cell='{first}']")
    keep(page, "6-gallery")
    page.click("#tab-differential")
    page.wait_for_selector("#differential-content table")
    keep(page, "7-differential")
    page.click("#tab-sign")
    page.click("#sign-button")
    page.wait_for_selector("#reopen")
    keep(page, "8-signed")
    with page.expect_download() as download:
        page.click("#export-pdf")
    assert Path(download.value.path()).read_bytes().startswith(b"%PDF-")

    own = {str(c["id"]): c["label"] for c in store.cells(session, "Dr. Ada")}
    assert own[first] == "eosinophil" and len(own) == n_cells
    steps = [e["details"].get("type") for e in store.log(session) if e["event"] == "labeled"]
    assert steps == ["basophil", "blast", "eosinophil"]
    store.close()


def test_every_cell_can_be_reviewed_by_keyboard_alone(server, new_page):
    kinds = ["lymphocyte"] * 30 + ["monocyte"] * 30
    session = prepared(server.state, kinds)
    truth = [("segmented neutrophil", "1"), ("lymphocyte", "3"), ("blast", "0")]
    page = new_page(f"{server.address}#{session}/gallery", "Dr. Keys")
    page.wait_for_selector(".tile")
    page.focus(".tile")
    page.keyboard.press("Home")
    wanted = {}
    for _ in kinds:
        number = int(page.evaluate("document.activeElement.dataset.cell"))
        name, key = truth[number % 3]
        wanted[number] = name
        page.keyboard.press(key)
        # the next cell that was not labeled yet
        while page.evaluate(
            "document.activeElement.querySelector('.mark')?.textContent === '✓'"
        ) and len(wanted) < len(kinds):
            page.keyboard.press("ArrowRight")
            if page.evaluate(
                "document.activeElement === [...document.querySelectorAll('.tile')].at(-1)"
            ):
                page.keyboard.press("Home")
    page.click("#tab-sign")
    page.wait_for_selector("#sign-content h2")
    store = open_store(server.state)
    assert {c["id"]: c["label"] for c in store.cells(session, "Dr. Keys")} == wanted
    assert sum(e["event"] == "labeled" for e in store.log(session)) == len(kinds)
    store.close()


def test_beside_a_field_the_page_says_that_a_name_is_missing(server, new_page):
    session = prepared(server.state, ["lymphocyte"] * 4)
    page = new_page(f"{server.address}#{session}/smear", "")
    aside = page.locator("#smear .details")
    aside.filter(has_text="Enter your name").wait_for()
    page.fill("#observer", "Ada")
    page.keyboard.press("Tab")
    aside.filter(has_text="Choose a cell").wait_for()


def test_two_observers_at_once_are_blind_and_then_compared(server, new_page):
    session = prepared(server.state, ["lymphocyte"] * 6 + ["monocyte"] * 6)
    pages = {who: new_page(f"{server.address}#{session}/gallery", who) for who in ("Ada", "Bo")}
    for who, key in (("Ada", "3"), ("Bo", "4")):
        pages[who].locator(".bin[data-type='lymphocyte'] .tile").first.click()
        pages[who].keyboard.press(key)
    for page in pages.values():
        page.click("#tab-sign")
        page.click("#sign-button")
        page.wait_for_selector("#reopen")
    assert labels(server.state, session, "Ada").count("monocyte") == 6
    assert labels(server.state, session, "Bo").count("monocyte") == 7
    pages["Ada"].click("#tab-gallery")
    pages["Ada"].click("#tab-sign")
    text = pages["Ada"].locator("#agreement").inner_text()
    assert "91.7%" in text and "kappa 0.83" in text
    keep(pages["Ada"], "9-two-observers")


@pytest.mark.parametrize(("look", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_no_serious_problem_of_accessibility(server, new_page, look, width):
    from axe_playwright_python.sync_playwright import Axe

    session = prepared(server.state, ["lymphocyte", "monocyte", "blast", "unidentified"], "x" * 90)
    page = new_page(f"{server.address}#{session}/start", "Dr. Ada", color_scheme=look)
    page.set_viewport_size({"width": width, "height": 800})
    for tab in ("start", "smear", "gallery", "differential", "sign"):
        page.click(f"#tab-{tab}")
        page.wait_for_timeout(400)
        if tab == "gallery":
            page.locator(".tile").first.click()
        keep(page, f"{look}-{width}-{tab}")
        found = Axe().run(page).response["violations"]
        serious = [v["id"] for v in found if v["impact"] in {"serious", "critical"}]
        assert serious == [], f"{tab}: {[(v['id'], v['nodes'][0]['html'][:120]) for v in found]}"
        too_wide = page.evaluate("document.documentElement.scrollWidth > innerWidth + 1")
        assert not too_wide, tab
