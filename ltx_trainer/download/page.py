"""Web pages, which come where a file was meant."""

import re

HEAD_BYTES = 512
PAGE = re.compile(rb"\s*<(!doctype\s+html|html[\s>])", re.IGNORECASE)
PAGE_TYPES = {"text/html", "application/xhtml+xml"}


def is_page_type(content_type: str) -> bool:
    """Say whether a media type, with or without parameters, is that of a web page."""
    return content_type.partition(";")[0].strip().lower() in PAGE_TYPES


def is_page(content: bytes) -> bool:
    """Say whether a web page begins like that."""
    return PAGE.match(content[:HEAD_BYTES].removeprefix(b"\xef\xbb\xbf")) is not None
