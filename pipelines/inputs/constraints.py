"""Constraint expressions as Slurm writes them, made label groups: every group must hold.

``gpu&(rack1|rack2)``, ``!debug``, ``gpu,rack2``: ``&``, a comma and white space are "and", ``|``
is "or", ``!`` is "not". The planner's form is conjunctive: groups that must all hold, each any of
its labels, of which one that begins with ``!`` is one the worker must not have.
"""

from __future__ import annotations

import re
from itertools import product
from typing import Any

from plancast.pipelines.inputs.cells import BadCell, text_cell

_TOKEN = re.compile(r"\s*([&|!(),]|[^\s&|!(),\[\]{}*]+)")
_MOST_GROUPS = 64

Groups = list[tuple[str, ...]]
"""A conjunction of disjunctions of labels."""


def requires_cell(cell: Any) -> tuple[str, ...]:
    """Label groups from an expression, or from a list of expressions that must all hold."""
    if isinstance(cell, list | tuple | set):
        groups = [group for item in cell for group in _groups(text_cell(item))]
    else:
        groups = _groups(text_cell(cell))
    return tuple(dict.fromkeys("|".join(dict.fromkeys(group)) for group in groups))


def _groups(text: str) -> Groups:
    """The groups of one expression; white space binds weakest, as in ``ssd zone-1|zone-2``."""
    if re.fullmatch(r"[^\s&!(),\[\]{}*]+(?:\s+[^\s&!(),\[\]{}*]+)*", text.strip()):
        found = [tuple(word.split("|")) for word in text.split()]
        if all(all(group) for group in found):
            return found
    return _Parser(text).groups()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        # White space next to an operator separates nothing.
        tight = re.sub(r"\s*([&|,])\s*", r"\1", text.strip())
        self.tokens: list[str] = []
        at = 0
        while at < len(tight):
            if tight[at].isspace() and self.tokens and self.tokens[-1] not in "!(":
                self.tokens.append(" ")
            match = _TOKEN.match(tight, at)
            if match is None:
                raise self.fault(f"{tight[at:].strip()[:1]!r} is none of & | ! ( ) and a comma")
            self.tokens.append(match[1])
            at = match.end()
        self.at = 0

    def fault(self, what: str) -> BadCell:
        return BadCell(f"constraint {self.text!r} is not understood: {what}")

    def groups(self) -> Groups:
        if not self.tokens:
            return []
        found = self._sequence()
        if self.at < len(self.tokens):
            raise self.fault(f"{self.tokens[self.at]!r} is one too many")
        return found

    def _next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _sequence(self) -> Groups:
        """Expressions with white space between them."""
        found = self._both()
        while self._next() == " ":
            self.at += 1
            found = self._and(found, self._both())
        return found

    def _both(self) -> Groups:
        """Terms with & and | between them; | before & would have two meanings."""
        found, either = self._term(), False
        while self._next() in ("&", "|", ","):
            operator = self.tokens[self.at]
            self.at += 1
            if operator == "|":
                found, either = self._or(found, self._term()), True
            elif either:
                raise self.fault("put parentheses around what stands before & or after |")
            else:
                found = self._and(found, self._term())
        return found

    def _term(self) -> Groups:
        token = self._next()
        self.at += 1
        if token == "(":
            found = self._sequence()
            if self._next() != ")":
                raise self.fault("a parenthesis is not closed")
            self.at += 1
            return found
        if token == "!":
            return self._not(self._term())
        if not token or token in "&|,) ":
            raise self.fault(f"a label is missing before {token!r}" if token else "it ends early")
        return [(token,)]

    def _and(self, one: Groups, other: Groups) -> Groups:
        return self._limited(one + other)

    def _or(self, one: Groups, other: Groups) -> Groups:
        self._limited([()] * (len(one) * len(other)))
        return [a + b for a, b in product(one, other)]

    def _not(self, groups: Groups) -> Groups:
        # Not all of the groups: in one of them no label holds.
        negated: Groups = [()]
        for group in groups:
            self._limited([()] * (len(negated) * len(group)))
            negated = [(*a, _opposite(label)) for a in negated for label in group]
        return negated

    def _limited(self, groups: Groups) -> Groups:
        if len(groups) > _MOST_GROUPS:
            raise self.fault(f"it has more than {_MOST_GROUPS} cases")
        return groups


def _opposite(label: str) -> str:
    return label[1:] if label.startswith("!") else f"!{label}"
