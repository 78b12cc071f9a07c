"""Label expressions as Slurm writes constraints: which workers a task may use.

``gpu&(rack1|rack2)``, ``!debug``, ``gpu,rack2``: ``&``, a comma and white space are "and", ``|`` is
"or", ``!`` is "not"; white space binds weakest. ``[rack1|rack2]`` is "or" too, but all pieces of a
gang are under the same one of the alternatives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

_LABEL = r"[^\s&|!(),\[\]{}*]+"
_PLAIN = re.compile(rf"!?{_LABEL}(?:\|!?{_LABEL})*")
_RUN_ON = re.compile(r"(?<=[^\s&|!(,\[])[!(\[]|(?<=[)\]])[^\s&|)\],]")
_MOST_NESTED = 50
"""Parentheses and negations in one expression."""


class BadExpression(ValueError):
    """What is wrong with a label expression, in one clause that names it."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A label expression as a tree.

    Parameters
    ----------
    operator : str
        ``label``, ``not``, ``and``, ``or``, or ``same``: an "or" of which one alternative holds
        for all pieces of a gang.
    operands : tuple of Expression
    label : str
        Of a ``label``.
    """

    operator: Literal["label", "not", "and", "or", "same"]
    operands: tuple[Expression, ...] = ()
    label: str = ""

    def holds(self, labels: frozenset[str]) -> bool:
        """Whether a worker with these labels satisfies it."""
        if self.operator == "label":
            return self.label in labels
        if self.operator == "not":
            return not self.operands[0].holds(labels)
        if self.operator == "and":
            return all(part.holds(labels) for part in self.operands)
        return any(part.holds(labels) for part in self.operands)

    def __str__(self) -> str:
        if self.operator == "label":
            return self.label
        if self.operator == "same":
            return f"[{'|'.join(part._as_operand() for part in self.operands)}]"
        if self.operator == "not":
            return f"!{self.operands[0]._as_operand()}"
        sign = "&" if self.operator == "and" else "|"
        return sign.join(part._as_operand() for part in self.operands)

    def _as_operand(self) -> str:
        return f"({self})" if self.operator in ("and", "or") else str(self)


@lru_cache(maxsize=1 << 16)
def parse(text: str) -> Expression:
    """An expression from its text.

    Parameters
    ----------
    text : str

    Raises
    ------
    BadExpression
        Where it is not understood.
    """
    if _PLAIN.fullmatch(text):
        found = _either([_literal(word) for word in text.split("|")])
    else:
        found = _parsed(text)
    _check_alternatives(text, found)
    return found


def conjuncts(texts: Iterable[str]) -> tuple[str, ...]:
    """What must hold all at once, each as the shortest text of its own and once.

    Parameters
    ----------
    texts : iterable of str
        Expressions that must all hold.

    Raises
    ------
    BadExpression
        Where one is not understood.
    """
    found: dict[str, None] = {}
    for text in texts:
        whole = parse(text)
        for part in whole.operands if whole.operator == "and" else (whole,):
            found[str(part)] = None
    return tuple(found)


def holds(texts: Sequence[str], labels: frozenset[str]) -> bool:
    """Whether a worker with these labels satisfies every one of some expressions."""
    return all(parse(text).holds(labels) for text in texts)


def alternatives(texts: Sequence[str]) -> tuple[Expression, ...]:
    """The alternatives of which one holds for all pieces of a gang; empty where there are none."""
    for text in texts:
        if "[" in text:
            whole = parse(text)
            for part in whole.operands if whole.operator == "and" else (whole,):
                if part.operator == "same":
                    return part.operands
    return ()


def _literal(word: str) -> Expression:
    if word.startswith("!"):
        return Expression("not", (Expression("label", label=word[1:]),))
    return Expression("label", label=word)


def _either(parts: list[Expression]) -> Expression:
    """Any of some expressions, each once."""
    return _joined("or", parts)


def _joined(operator: Literal["and", "or"], parts: Sequence[Expression]) -> Expression:
    flat: dict[Expression, None] = {}
    for part in parts:
        flat |= dict.fromkeys(part.operands if part.operator == operator else (part,))
    return next(iter(flat)) if len(flat) == 1 else Expression(operator, tuple(flat))


@cache
def _grammar() -> Any:
    # Imported only now: few requests have more than plain labels.
    import pyparsing as pp

    term = pp.Forward()
    alternatives_ = pp.Suppress("[") - pp.DelimitedList(term, "|") - pp.Suppress("]")
    alternatives_.set_parse_action(lambda found: Expression("same", tuple(found)))
    negated = pp.Suppress("!") - term
    negated.set_parse_action(lambda found: _negated(found[0]))
    label = pp.Regex(_LABEL).set_parse_action(lambda found: Expression("label", label=found[0]))
    # | before & would have two meanings: Slurm reads from left to right, C binds & tighter.
    both = term + pp.ZeroOrMore(pp.Suppress(pp.one_of("& ,")) - term)
    both.set_parse_action(lambda found: _joined("and", list(found)))
    group = both + pp.ZeroOrMore(pp.Suppress("|") - term)
    group.set_parse_action(lambda found: _either(list(found)))
    sequence = pp.OneOrMore(group).set_parse_action(lambda found: _joined("and", list(found)))
    term <<= label | negated | alternatives_ | pp.Suppress("(") - sequence - pp.Suppress(")")
    return sequence


def _negated(part: Expression) -> Expression:
    return part.operands[0] if part.operator == "not" else Expression("not", (part,))


def _parsed(text: str) -> Expression:
    import pyparsing as pp

    if not text.strip():
        raise BadExpression("a constraint is empty; remove it or name a label")
    if text.count("(") + text.count("!") > _MOST_NESTED:
        raise _fault(text, f"it has more than {_MOST_NESTED} parentheses and negations")
    if run_on := _RUN_ON.search(text):
        raise _fault(text, f"put & or white space before {text[run_on.start() :][:1]!r}")
    try:
        found: Expression = _grammar().parse_string(text, parse_all=True)[0]
    except pp.ParseBaseException as error:
        rest = text[error.loc :].strip()
        after_term = not isinstance(error, pp.ParseSyntaxException) and error.loc > 0
        if not rest:
            raise _fault(text, "it ends early") from None
        if rest[0] in "{}*":
            raise _fault(text, f"{rest[0]!r} is none of & | ! ( ) [ ] and a comma") from None
        if after_term and rest[0] in "&,":
            what = "put parentheses around what stands before & or after |"
            raise _fault(text, what) from None
        raise _fault(text, f"{rest[0]!r} is one too many") from None
    return found


def _check_alternatives(text: str, whole: Expression) -> None:
    top = whole.operands if whole.operator == "and" else (whole,)
    found = sum(part.operator == "same" for part in top)
    if found != text.count("["):
        raise _fault(text, "[ ] must stand alone or between &, not within | ! ( )")
    if found > 1:
        raise _fault(text, "it has more than one [ ]")


def _fault(text: str, what: str) -> BadExpression:
    return BadExpression(f"constraint {text!r} is not understood: {what}")
