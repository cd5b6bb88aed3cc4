"""Refuse options of the wrong kind by their name, before they do harm."""

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, get_args, get_origin


class Rule(NamedTuple):
    """A rule that an option has to meet, in words and as a test.

    Attributes:
        words: In words.
        holds: Whether a value is that.
    """

    words: str
    holds: Callable[[Any], bool]


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


_RULES = {
    bool: Rule('a bool', lambda v: isinstance(v, bool)),
    int: Rule('an int', lambda v: _is_number(v, Integral)),
    float: Rule(
        'a finite number', lambda v: _is_number(v, Real) and isfinite(v)
    ),
    str: Rule('a string', lambda v: isinstance(v, (str, os.PathLike))),
    dict: Rule('a dict', lambda v: isinstance(v, Mapping)),
    Mapping: Rule('a dict', lambda v: isinstance(v, Mapping)),
    NoneType: Rule('None', lambda v: v is None),
}


#: Options that have another name since 0.2.0.
_RENAMED = {'sees': 'gate_input'}


def check_options(function: Callable) -> Callable:
    """Let a class or function refuse arguments that are not as annotated.

    Asked for are the annotations bool, int, float (finite), str, dict,
    None, ``Literal``, and lists and unions of them; an argument with another
    one is not looked at. The range of a number is for the function to check.

    Args:
        function: A function, or a class, whose constructor is replaced.

    Returns:
        The function with that check, or the class.
    """
    if inspect.isclass(function):
        function.__init__ = _checked(function.__init__, function.__name__)
        return function
    return _checked(function, function.__name__)


def check_least(least: float, **options: float | None) -> None:
    """Refuse numbers that are too small, by name; None is no number.

    Args:
        least: The smallest that is allowed.
        **options: The numbers.

    Raises:
        ValueError: One of them is smaller.
    """
    for name, value in options.items():
        if value is not None and value < least:
            raise ValueError(f'expected {name} >= {least}, got {value!r}')


def _checked(function: Callable, owner: str) -> Callable:
    signature = inspect.signature(function)
    rules = {
        name: rule_of(parameter.annotation)
        for name, parameter in signature.parameters.items()
        if parameter.kind
        not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        """Check the options, then do what was asked for."""
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            hints = [
                f'; {old} is called {new} now'
                for old, new in _RENAMED.items()
                if old in kwargs
            ]
            raise TypeError(f'{owner}: {error}{"".join(hints)}') from None
        for name, value in given.items():
            rule = rules.get(name)
            if rule is not None and not rule.holds(value):
                raise ValueError(
                    f'{owner}: expected {name} to be {rule.words}, got '
                    f'{value!r}'
                )
        return function(*args, **kwargs)

    return call


def rule_of(annotation: Any) -> Rule | None:
    """Find the rule of an annotation; None if it is none of those above."""
    if annotation in _RULES:
        return _RULES[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return Rule(
            f'one of {inner}',
            lambda v: any(type(v) is type(i) and v == i for i in inner),
        )
    if origin is UnionType:
        rules = [rule_of(one) for one in inner]
        if None in rules:
            return None
        words = ' or '.join(rule.words for rule in rules)
        return Rule(words, lambda v: any(rule.holds(v) for rule in rules))
    # All kinds in tuple[int, int] are one.
    rule = rule_of(inner[-1]) if inner else None
    if rule is not None and origin is Mapping:
        return Rule(
            f'a dict ({rule.words} each)',
            lambda v: (
                isinstance(v, Mapping) and all(map(rule.holds, v.values()))
            ),
        )
    if rule is not None and origin in (list, tuple, Sequence):
        return Rule(
            f'a list ({rule.words} each)',
            lambda v: isinstance(v, (list, tuple)) and all(map(rule.holds, v)),
        )
    return None
