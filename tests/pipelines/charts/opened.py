"""Pages opened in Debian's Chromium, with what went wrong in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Opened:
    """Opens pages, one at a time, and collects script errors, warnings and requests."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser
        self.page: Any = None
        self.faults: list[str] = []

    def __call__(self, path: Path, width: int, theme: str = "light") -> Any:
        """The page, once all its charts are drawn."""
        self.close()
        self.page = self.browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=theme
        )
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("console", lambda said: self.faults.append(f"console: {said.text}"))
        self.page.on("request", self._asked)
        self.page.goto(path.as_uri())
        self.page.evaluate("pending")
        return self.page

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.faults.append(f"request: {request.url}")

    def close(self) -> None:
        """Close the page that is open."""
        if self.page is not None:
            self.page.close()
            self.page = None
