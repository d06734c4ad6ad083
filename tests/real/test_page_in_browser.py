"""The local page in a real browser: what it shows and does, and what names that others chose can do there (B27)."""

from __future__ import annotations

import http.server
import sys
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshsync.agent import api_schema as api
from meshsync.agent.home import Home
from meshsync.cli.client import Client
from meshsync.cli.escape import printable
from tests.promises.test_b27_output import HostileTwin
from tests.real.browser import browsing
from tests.support.agent_twin import serving
from tests.support.real_mesh import Mesh

pytestmark = pytest.mark.slow
MARKUP = '<img src=x onerror="document.title=1"><b id=evil>\u202e</b>'


@pytest.fixture
def browser() -> Iterator[Any]:
    with browsing() as made:
        yield made


def opened(browser: Any, url: str) -> Any:
    """Return a tab that shows the page, with `complaints` of its console."""
    page = browser.new_context(viewport={"width": 1000, "height": 900}).new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(url)
    page.wait_for_selector("#versions td")
    return page


class MarkupTwin(HostileTwin):
    """A daemon whose names are written by an enemy who aims at browsers."""

    async def status(self) -> api.Status:
        found = await super().status()
        folders = [api.FolderState(**{**vars_of(folder), "name": MARKUP}) for folder in found.folders]
        return api.Status(**{**vars_of(found), "folders": folders})


def vars_of(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def test_hostile_names_are_text_that_shows_what_cannot_be_seen(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path / "home", MarkupTwin()):
        page = opened(browser, Client(Home(tmp_path / "home")).post("/page")["url"])
        text = page.inner_text("body")
        assert printable(MARKUP) in text
        assert all(character.isprintable() or character in "\n\t\u202f" for character in text)
        assert page.locator("img, #evil").count() == 0 and "meshsync" in page.title()
        assert page.complaints == []


def test_a_name_is_shown_as_a_terminal_shows_it(browser: Any, tmp_path: Path) -> None:
    """Every code point, but those that one of the two does not know yet."""
    codes = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) != "Cn"]
    want = [printable(chr(code)) for code in codes]
    with serving(tmp_path / "home"):
        page = opened(browser, Client(Home(tmp_path / "home")).post("/page")["url"])
        script = """async (codes) => {
            const { shown } = await import("/shown.js");
            return codes.map((code) => String.fromCodePoint(code)).map(
                (character) => /\\p{Cn}/u.test(character) ? null : escape(shown(character)));
        }"""
        got = page.evaluate(script, codes)
        escaped = page.evaluate("(texts) => texts.map((text) => escape(text))", [t if len(t) > 1 else "" for t in want])
        differing = [
            codes[at] for at, text in enumerate(got) if text is not None and len(want[at]) > 1 and text != escaped[at]
        ]
        unescaped = [
            codes[at] for at, text in enumerate(got) if text is not None and len(want[at]) == 1 and "%5C" in text
        ]
        assert differing == [] and unescaped == []


def test_the_key_leaves_the_address_and_a_reload_goes_on(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path / "home"):
        url = Client(Home(tmp_path / "home")).post("/page")["url"]
        page = opened(browser, url)
        assert "#" not in page.url and page.evaluate("history.length") <= 2
        page.reload()
        page.wait_for_selector("#versions td")
        other = browser.new_context().new_page()
        other.goto(url)
        other.wait_for_selector("#notice:not([hidden])")
        assert "meshsync open" in other.inner_text("#notice") and other.locator("#main").is_hidden()


def test_another_site_in_the_same_browser_learns_and_does_nothing(browser: Any, tmp_path: Path) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    try:
        with serving(tmp_path / "home") as twin:
            page = opened(browser, Client(Home(tmp_path / "home")).post("/page")["url"])
            token, origin = page.evaluate("sessionStorage.getItem('meshsync-token')"), page.url.rstrip("/")
            evil = page.context.new_page()
            evil.goto(f"http://127.0.0.1:{site.server_port}/")
            tried = evil.evaluate(
                """async ([origin, token]) => {
                    const tries = [];
                    for (const headers of [{}, { Authorization: "Bearer " + token }])
                        for (const mode of ["cors", "no-cors"])
                            for (const method of ["GET", "POST"])
                                tries.push(await fetch(origin + "/api/v1/" + (method === "GET" ? "status" : "stop"),
                                    { method, mode, headers }).then((answer) => answer.text(), () => "refused"));
                    const frame = document.createElement("iframe");
                    frame.src = origin + "/";
                    document.body.append(frame);
                    await new Promise((loaded) => { frame.onload = loaded; setTimeout(loaded, 2000); });
                    try { tries.push(frame.contentDocument ? "framed" : "refused"); } catch { tries.push("refused"); }
                    return tries;
                }""",
                [origin, token],
            )
            assert set(tried) <= {"refused", ""}
            assert not twin.stopped.is_set()
    finally:
        site.shutdown()
        site.server_close()


def test_it_shows_what_happens_pauses_and_brings_versions_back(browser: Any, mesh: Mesh) -> None:
    (laptop,) = mesh.pair(["laptop"], relay=True)
    laptop.share()
    (laptop.tree / "plan.txt").write_text("first")
    laptop.rescan()
    laptop.wait(durable=True)
    page = opened(browser, laptop.cli("open", "--print")["url"])
    page.wait_for_selector("#folders >> text=in sync")
    (laptop.tree / "plan.txt").write_text("second")
    (laptop.tree / "news.txt").write_text("news")
    page.wait_for_selector("#versions >> text=news.txt", timeout=20_000)  # told, not asked for
    page.click("#folders >> text=Pause")
    page.wait_for_selector("#folders >> text=paused")
    page.click("#folders >> text=Resume")
    page.wait_for_selector("#folders >> text=in sync")
    page.fill("#name", "plan")
    page.click("text=Find")
    page.click("#versions tr:has-text('plan.txt') >> text=History")
    page.wait_for_selector("#versions >> text=Restore")
    oldest = page.locator("#versions tbody tr").last
    oldest.get_by_text("Restore").click()
    page.wait_for_selector("#notice:has-text('Restored')")
    assert (laptop.tree / "plan.txt").read_text() == "first"
    with page.expect_download() as download:
        page.locator("#versions tr:has-text('edited')").get_by_text("Download").click()
    assert download.value.suggested_filename == "plan.txt"
    assert Path(download.value.path()).read_text() == "second"
    laptop.down()
    page.wait_for_selector("#notice:has-text('meshsync up')", timeout=20_000)
    laptop.up()
    assert page.complaints == [] or all("ERR_" in text for text in page.complaints)
