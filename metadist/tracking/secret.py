"""A tracking URI may hold the password of a database or a server, which is nobody else's business."""

from __future__ import annotations

import re


def without_password(uri: str) -> str:
    """The URI as others may see it: without who asks, and without secrets among its options.

    >>> without_password("postgresql://me:secret@host/db?sslpassword=secret"), without_password("http://host:5000")
    ('postgresql://***@host/db?sslpassword=***', 'http://host:5000')
    """
    if uri.startswith("sqlite:"):
        return uri
    return re.sub(r"([?&][^=&]*(?:password|token|secret)[^=&]*=)[^&]*", r"\1***", re.sub(r"://[^?]*@", "://***@", uri))
