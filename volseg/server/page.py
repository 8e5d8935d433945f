"""The page that the server shows in a browser: all of it in one file, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

_PAGE = Path(__file__).with_name("page.html")

router = APIRouter(include_in_schema=False)


def _policy(page: str) -> str:
    """Return what a browser may do for the page: run its own script, and ask its own server."""

    def hashes(tag: str) -> str:
        found = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in found]
        return " ".join(f"'sha256-{digest.decode()}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


@router.get("/")
async def page() -> HTMLResponse:
    """Return the page."""
    text = _PAGE.read_text(encoding="utf-8")
    return HTMLResponse(text, headers={"Content-Security-Policy": _policy(text)})
