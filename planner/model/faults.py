"""Faults that pydantic finds in what users write, in plain words."""

from __future__ import annotations

import re
from typing import Any

from plancast.wording import shorten

_PLAIN = {
    "missing": "is missing; add it",
    "extra_forbidden": "is no field here; remove it or correct its name",
    "unexpected_keyword_argument": "is no field here; remove it or correct its name",
    "string_type": "must be text; put it in quotes",
    "string_too_short": "is empty; give it a name",
    "too_short": "is empty; list at least one",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of fields",
    "dataclass_type": "must be an object with fields",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
}
_WORDS = re.compile(r"\^\(([\w|-]+)\)\$")
"""A pattern that is a choice of words."""


def in_words(fault: Any) -> str:
    """One of pydantic's faults (``ValidationError.errors``), with the value where it is short."""
    what, context, value = fault["type"], fault.get("ctx", {}), _shown(fault["input"])
    if (cause := context.get("error")) is not None:
        return str(cause)  # a reader's own sentence names the value already
    if what == "greater_than":
        text = f"must be more than {context['gt']:g}"
    elif what == "greater_than_equal":
        text = f"must be {context['ge']:g} or more"
    elif what == "less_than":
        text = f"must be less than {context['lt']:g}"
    elif what == "less_than_equal":
        text = f"must be {context['le']:g} or less"
    elif what in ("literal_error", "enum"):
        text = f"must be {context['expected']}"
    elif what.startswith("int_"):
        text = "must be a whole number"
    elif what.startswith("float_"):
        text = "must be a number"
    elif what == "string_pattern_mismatch" and (words := _WORDS.fullmatch(context["pattern"])):
        text = f"must be {words[1].replace('|', ', ')}"
    elif what in ("union_tag_invalid", "union_tag_not_found"):
        name = context["discriminator"].strip("'")
        if what == "union_tag_not_found":
            return f"{name} is missing; add it"
        known = context["expected_tags"].replace("'", "")
        return f"{name} is {_shown(context['tag'])!r}; it must be {known}"
    elif what == "tuple_type":
        # In a list stands a window; a field holds a list itself.
        text = "must be a " + ("pair [start, end]" if isinstance(fault["loc"][-1], int) else "list")
    else:
        text = _PLAIN.get(what) or re.sub(r"^Input should be", "must be", fault["msg"])
    short = isinstance(value, str | int | float) and what != "missing"
    return f"{text} (it is {value!r})" if short else text


def _shown(value: Any) -> Any:
    return shorten(value) if isinstance(value, str) else value
