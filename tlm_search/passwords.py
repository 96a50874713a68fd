"""Remove passwords from URLs before they are printed, logged or stored."""

from __future__ import annotations

import re
from urllib.parse import unquote

# A secret follows a user and a colon, or nothing (as Redis and HTTP allow), or the name of an option.
_SECRET = re.compile(
    r"(://[^:/@\s]*:)\S*(?=@)"
    r"|((?:rediss?|https?)://)[^:/?@\s]+(?=@)"
    r"|((?<![\w-])(?:password|passwd|pwd|pass|secret|token)="
    r"|[?&][\w.-]*(?:key|sig|signature|secret|token|password)=)[^&\s]*",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Return ``text`` without the passwords of the URLs in it."""
    return _SECRET.sub(lambda found: f"{_before(found)}***", text)


def masked_words(text: str, url: str) -> str:
    """Return a database driver's message about ``url`` without the password, even if it stands outside of the URL."""
    for secret in _secrets(url):
        text = text.replace(secret, "***")
    return masked(text)


def _secrets(url: str) -> set[str]:
    raw = [found[0].removeprefix(_before(found)) for found in _SECRET.finditer(url)]
    return {form for text in raw for form in (text, unquote(text)) if form}


def _before(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None)
