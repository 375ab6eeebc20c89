"""A real browser that opens pages of ours, and sees to it that they keep to themselves.

A page is opened from a file, as from a mail attachment. Whatever it asks for over any network is refused and noted, and
so is every message in its console, every error of its script, every dialog.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Route, sync_playwright

from tests.support import programs

ARGUMENTS = (
    "--no-sandbox",  # root in a container cannot have one
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The private Chromium, with a fresh profile."""
    with sync_playwright() as playwright:
        path = programs.find("chromium-headless-shell")
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page, and what it did that it should not: `requests` it made, and other `problems`."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.problems: list[str] = []
        page.route("**/*", self._route)
        page.on("console", lambda message: self.problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("dialog", self._dialog)

    def _route(self, route: Route) -> None:
        own = route.request.is_navigation_request() and route.request.url.startswith("file:")
        if own:
            route.continue_()
            return
        self.requests.append(route.request.url)
        route.abort()

    def _dialog(self, dialog: Any) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@contextmanager
def opened(browser: Browser, file: Path, **context: Any) -> Iterator[Watched]:
    """`file` in a context of its own; `context` is what Playwright's ``new_context`` takes."""
    surroundings = browser.new_context(**context)
    try:
        watched = Watched(surroundings.new_page())
        watched.page.goto(file.as_uri())
        yield watched
    finally:
        surroundings.close()
