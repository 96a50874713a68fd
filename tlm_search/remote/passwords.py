"""Passwords in URLs: they are never printed, logged or written down."""

from __future__ import annotations

import re
from urllib.parse import unquote

_SECRET = re.compile(r"(://[^:/@\s]*:)\S*(?=@)|((?:password|passwd|secret|token|key|sig)=)[^&\s]*")


def masked(text: str) -> str:
    """Return ``text`` without the passwords of the URLs in it."""
    return _SECRET.sub(lambda found: f"{found[1] or found[2]}***", text)


def masked_words(text: str, url: str) -> str:
    """Return what a driver says of ``url``, without its password where it stands alone."""
    for secret in _secrets(url):
        text = text.replace(secret, "***")
    return masked(text)


def _secrets(url: str) -> set[str]:
    raw = [found[0].removeprefix(found[1] or found[2]) for found in _SECRET.finditer(url)]
    return {form for text in raw for form in (text, unquote(text)) if form}
