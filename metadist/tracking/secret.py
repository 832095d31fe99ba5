"""A tracking URI may hold the password of a database or a server, which is nobody else's business."""

from __future__ import annotations

import re


def without_password(uri: str) -> str:
    """The URI as others may see it.

    >>> without_password("postgresql://me:secret@host/db"), without_password("sqlite:////runs/mlflow.db")
    ('postgresql://me:***@host/db', 'sqlite:////runs/mlflow.db')
    """
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", uri)
