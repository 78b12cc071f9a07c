"""How large a body may be: in bytes, in values, and in depth.

Bytes alone do not bound the memory that a body takes: ``[1,1,...]`` grows a hundredfold when it
becomes values. So values and depth are counted in the text before it is parsed, without making
anything of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

CHUNK = 1 << 20
_ESCAPE = re.compile(rb"\\.", re.DOTALL)


class TooLarge(Exception):
    """A body beyond a limit; the text says which."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a body may have at most.

    Parameters
    ----------
    most_bytes : int
        16 MiB: a request of 10,000 tasks has 5.
    most_values : int
        Members of objects and arrays together; such a request has half a million. A body with as
        many as may be, all of them wrong, takes 0.6 GB and a second or two until it is refused.
    most_depth : int
        Arrays and objects within each other.
    """

    most_bytes: int = 16 << 20
    most_values: int = 1_000_000
    most_depth: int = 32

    def check(self, text: bytes) -> None:
        """Count, before anything is parsed.

        Raises
        ------
        TooLarge

        Notes
        -----
        In valid JSON a value more comes with each comma, and with each bracket that opens. What
        stands within strings does not count; text that is no JSON is counted somehow, and
        refused later.
        """
        # A comma within a string counts too many at most: then it is looked at closely.
        commas = text.count(b",") + text.count(b"[") + text.count(b"{")
        if commas <= self.most_values and text.count(b"[") + text.count(b"{") <= self.most_depth:
            return
        values, depth = _counted(text)
        if values > self.most_values:
            raise TooLarge(
                f"the body has {values:,} values, more than {self.most_values:,}; send less at once"
            )
        if depth > self.most_depth:
            raise TooLarge(f"the body is nested {depth} deep, deeper than {self.most_depth}")


def _counted(text: bytes) -> tuple[int, int]:
    """Values and depth of JSON text."""
    if b"\\" in text:
        text = _ESCAPE.sub(b"", text)
    values, depth, deepest, quoted = 0, 0, 0, 0
    for at in range(0, len(text), CHUNK):
        part = np.frombuffer(text, np.uint8, min(CHUNK, len(text) - at), at)
        quotes = np.cumsum(part == ord('"')) + quoted
        quoted = int(quotes[-1])
        bare = quotes % 2 == 0
        opens = ((part == ord("[")) | (part == ord("{"))) & bare
        closes = ((part == ord("]")) | (part == ord("}"))) & bare
        levels = np.cumsum(opens.astype(np.int32) - closes) + depth
        depth, deepest = int(levels[-1]), max(deepest, int(levels.max()))
        values += int(opens.sum()) + int(((part == ord(",")) & bare).sum())
    return values, deepest
