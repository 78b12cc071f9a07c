"""Names of jobs without what is different each time: numbers, dates, hashes, sample ids.

``align_NA12878_2024-05-01`` and ``align_NA12891_2024-06-11`` are runs of one thing.
"""

from __future__ import annotations

import re
from functools import lru_cache

_HASH = re.compile(
    r"(?<![0-9a-z])(?=[0-9a-f-]*[0-9])(?=[0-9a-f-]*[a-f])[0-9a-f]{4,}(?:-[0-9a-f]{4,})*(?![0-9a-z])",
    re.IGNORECASE,
)
"""A word of hexadecimal digits, at least one of them a letter: a hash, or a UUID."""
_LEAST_HASH = 8
_NUMBER = re.compile(r"\d+(?:[-_.:T ]?\d+)*")
"""Numbers, and dates, times and versions made of several."""


@lru_cache(maxsize=1 << 16)
def name_of(app: str) -> str:
    """What a job's name has in common with those of other runs of the same.

    Parameters
    ----------
    app : str

    Returns
    -------
    str
        Each number (date, time, version) as ``#``, each hash as ``*``. A name that is a number
        stays as it is: it is the code of an application in an archived log.
    """
    if app.isdigit() or not any(c.isdigit() for c in app):
        return app
    known = _HASH.sub(lambda m: "*" if len(m.group()) >= _LEAST_HASH else m.group(), app)
    return _NUMBER.sub("#", known)
