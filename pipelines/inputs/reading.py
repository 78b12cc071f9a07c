"""How a job log is read: what the command line and the pipeline's settings say of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plancast.planner.model.domain import BadRequest

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Reading:
    """Options of ``plancast.predictor.logs.read_log``; what is None is left to the reader.

    Parameters
    ----------
    format : str
        ``auto`` or a name of ``plancast.predictor.logs.READERS``.
    columns : str, optional
        Column map of a table: its file, or the name of a built-in one.
    timezone : str, optional
        Of times without an offset.
    fields, delimiter : str, optional
        Of a sacct log without a header, or with another delimiter than a bar.
    max_bad : float, optional
        Share of bad rows above which a log is refused.
    strict : bool
        Whether any bad row refuses it.
    """

    format: str = "auto"
    columns: str | None = None
    timezone: str | None = None
    fields: str | None = None
    delimiter: str | None = None
    max_bad: float | None = None
    strict: bool = False

    def read(self, log: str | Path | pd.DataFrame) -> pd.DataFrame:
        """The canonical frame of a log, or of a frame that is one already."""
        # Imported only now: most commands read the settings and no log.
        from plancast.predictor.logs import read_log
        from plancast.predictor.schema import canonical

        if not isinstance(log, str | Path):
            found = canonical(log)
            found.attrs = {"source": "log", "format": "table"} | found.attrs
            return found
        given: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("timezone", "fields", "delimiter")
            if getattr(self, name) is not None
        }
        return read_log(
            log,
            self.format,
            self.columns,
            max_bad=self.max_bad,
            strict=self.strict,
            **given,
        )


def parse_share(text: str) -> float:
    """A share as written: ``5%`` or ``0.05``.

    Raises
    ------
    BadRequest
        Where it is none in [0, 1].
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(%?)", text.strip())
    share = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if not 0 <= share <= 1:
        raise BadRequest(f"--max-bad {text!r}: write a share such as 5% or 0.05")
    return share
