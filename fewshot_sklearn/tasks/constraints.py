"""What a parameter may be: declared once, next to it, and checked where it is first used.

As in scikit-learn, constructors check nothing: `fit` checks all that a class declares in its
`_constraints`, and those of its bases, before it looks at any data.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from inspect import signature
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor

#: Longest description of a wrong value in an error.
LONGEST = 80
#: The largest seed that numpy's generators take.
LARGEST_SEED = 2**32 - 1


class Constraint:
    """What the value of one parameter may be; ``Whole(1) | OneOf("auto") | None`` is any of them.

    A kind of constraint says by `told` what it allows, as it reads after "must be".
    """

    told: str

    @property
    def options(self) -> list[str]:
        """What it allows, part by part."""
        return [self.told]

    def allows(self, value: Any) -> bool:
        """Whether a value may be."""
        raise NotImplementedError

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that may not be.

        Parameters
        ----------
        name : str
            Of the parameter.
        value : object
            What was given.

        Raises
        ------
        ValueError
            When it may not be; says the name, what may be and what was given.
        """
        if not self.allows(value):
            raise ValueError(f"{name} must be {self.told}, got {in_short(value)}.")

    def __or__(self, other: Constraint | None) -> Constraint:
        mine = self.either if isinstance(self, _Either) else (self,)
        return _Either((*mine, Nothing() if other is None else other))


@dataclass(frozen=True)
class _Either(Constraint):
    """One of several constraints."""

    either: tuple[Constraint, ...]

    @property
    def told(self) -> str:  # type: ignore[override]
        return _listed([option for one in self.either for option in one.options])

    def allows(self, value: Any) -> bool:
        return any(one.allows(value) for one in self.either)


class Nothing(Constraint):
    """None alone."""

    told = "None"

    def allows(self, value: Any) -> bool:
        return value is None


class Flag(Constraint):
    """True or False, numpy's too."""

    told = "True or False"

    def allows(self, value: Any) -> bool:
        return isinstance(value, bool | np.bool_)


@dataclass(frozen=True)
class Whole(Constraint):
    """An int, numpy's too and no bool, within bounds that may be reached.

    Parameters
    ----------
    low, high : int or None
        Bounds.
    """

    low: int | None = None
    high: int | None = None

    @property
    def told(self) -> str:  # type: ignore[override]
        return "an int" + _within(self.low, self.high)

    def allows(self, value: Any) -> bool:
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        return whole and _between(value, self.low, self.high)


@dataclass(frozen=True)
class Number(Constraint):
    """A finite number, numpy's too and no bool, within bounds.

    Parameters
    ----------
    low, high : float or None
        Bounds that may be reached.
    above, below : float or None
        Bounds that may not.
    """

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    @property
    def told(self) -> str:  # type: ignore[override]
        parts = [f"above {self.above:g}"] if self.above is not None else []
        parts += [f"below {self.below:g}"] if self.below is not None else []
        return "a finite number" + _within(self.low, self.high) + "".join(f", {p}" for p in parts)

    def allows(self, value: Any) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        number: Any = value
        try:
            if not math.isfinite(number):
                return False
        except OverflowError:  # an int beyond all floats
            return False
        inside = (self.above is None or number > self.above) and (
            self.below is None or number < self.below
        )
        return inside and _between(number, self.low, self.high)


class Positive(Number):
    """A finite number above zero.

    Parameters
    ----------
    below : float or None, default=None
        A bound that may not be reached.
    """

    def __init__(self, below: float | None = None):
        super().__init__(above=0, below=below)

    @property
    def told(self) -> str:  # type: ignore[override]
        return "a positive finite number" + (f", below {self.below:g}" if self.below else "")


class OneOf(Constraint):
    """One of some names.

    Parameters
    ----------
    *names : str
        The names.
    """

    def __init__(self, *names: str):
        self.names = names
        self.told = _listed(self.options)

    @property
    def options(self) -> list[str]:
        return [repr(name) for name in self.names]

    def allows(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.names


@dataclass(frozen=True)
class WholeOrRange(Constraint):
    """An int, or the (low, high) pair of ints that it is drawn between.

    Parameters
    ----------
    least : int
        Lowest that may be.
    """

    least: int

    @property
    def told(self) -> str:  # type: ignore[override]
        return (
            f"an int, at least {self.least}, or a (low, high) pair of ints with "
            f"{self.least} <= low <= high"
        )

    def allows(self, value: Any) -> bool:
        pair = value if isinstance(value, tuple | list) else (value, value)
        whole = Whole(self.least)
        return len(pair) == 2 and all(map(whole.allows, pair)) and pair[0] <= pair[1]


@dataclass(frozen=True)
class Several(Constraint):
    """A list, tuple or array of values that each may be.

    Parameters
    ----------
    each : Constraint
        What each may be.
    least : int, default=1
        How many there must be.
    """

    each: Constraint
    least: int = 1

    @property
    def told(self) -> str:  # type: ignore[override]
        return f"a sequence of {self.least} or more values, each {self.each.told}"

    def allows(self, value: Any) -> bool:
        if isinstance(value, np.ndarray):
            value = list(value) if value.ndim == 1 else None
        found = isinstance(value, list | tuple) and len(value) >= self.least
        return found and all(map(self.each.allows, value))


class Kind(Constraint):
    """An object of some type.

    Parameters
    ----------
    *kinds : type
        The types.
    told : str
        What they are called.
    """

    def __init__(self, *kinds: type, told: str):
        self.kinds, self.told = kinds, told

    def allows(self, value: Any) -> bool:
        return isinstance(value, self.kinds)


class ClassOf(Constraint):
    """A class, rather than an object of it.

    Parameters
    ----------
    kind : type
        What it derives from.
    told : str
        What it is called.
    """

    def __init__(self, kind: type, told: str):
        self.kind, self.told = kind, told

    def allows(self, value: Any) -> bool:
        return isinstance(value, type) and issubclass(value, self.kind)


class FilePath(Constraint):
    """The path of a file or a folder, which need not be there."""

    told = "a path"

    def allows(self, value: Any) -> bool:
        return isinstance(value, str | os.PathLike) and bool(os.fspath(value))


class Learns(Constraint):
    """An estimator: an object, and no class, that can be fitted.

    Parameters
    ----------
    kind : {"classifier", "regressor"} or None, default=None
        What it must be, too.
    """

    def __init__(self, kind: str | None = None):
        self.kind = kind
        self.told = f"a {kind}" if kind else "an estimator"

    def allows(self, value: Any) -> bool:
        if isinstance(value, type) or not hasattr(value, "fit"):
            return False
        if self.kind is None:
            return True
        return bool((is_classifier if self.kind == "classifier" else is_regressor)(value))


def _takes(function: Any, n_args: int) -> bool:
    try:
        signature(function).bind(*range(n_args))
    except TypeError:
        return False
    except ValueError:  # of one written in C that does not tell
        return True
    return True


class Function(Constraint):
    """What can be called.

    Parameters
    ----------
    told : str
        How it is called, such as ``"a function augment(X, rng) -> X"``.
    n_args : int or None, default=None
        How many arguments it is called with, where it is called as it is: a class, which would
        make an object of them, is then none. None asks no more than that it can be called.
    """

    def __init__(self, told: str, n_args: int | None = None):
        self.told, self.n_args = told, n_args

    def allows(self, value: Any) -> bool:
        if not callable(value) or self.n_args is None:
            return callable(value)
        return not isinstance(value, type) and _takes(value, self.n_args)


class Seed(Constraint):
    """What scikit-learn takes as a `random_state`."""

    told = f"an int from 0 to {LARGEST_SEED}, a numpy.random.RandomState or None"

    def allows(self, value: Any) -> bool:
        if value is None or value is np.random or isinstance(value, np.random.RandomState):
            return True
        return Whole(0, LARGEST_SEED).allows(value)


class Anything(Constraint):
    """Whatever is given: an estimator or the like, which is looked at where it is used."""

    told = "anything"

    def allows(self, value: Any) -> bool:
        return True


class Name(Constraint):
    """A name, of what is looked at where it is used."""

    told = "a name"

    def allows(self, value: Any) -> bool:
        return isinstance(value, str)


#: Number of processes, as joblib takes it.
N_JOBS = Whole(1) | Whole(high=-1) | None
#: How answers are scored: one number.
SCORING = Name() | Function("a scorer") | None


def check_arguments(constraints: Mapping[str, Constraint], prefix: str = "", **values: Any) -> None:
    """Refuse arguments that may not be what they are.

    Parameters
    ----------
    constraints : dict of str to Constraint
        What each may be.
    prefix : str, default=""
        What the names begin with for whoever gave the values.
    **values : dict
        The arguments; those without a constraint may be anything.

    Raises
    ------
    ValueError
        For the first that may not.

    Examples
    --------
    >>> from fewshot_sklearn.tasks import Whole, check_arguments
    >>> check_arguments({"n_draws": Whole(2) | None}, n_draws=1)
    Traceback (most recent call last):
    ValueError: n_draws must be an int, at least 2, or None, got 1.
    """
    for name, value in values.items():
        if name in constraints:
            constraints[name].check(f"{prefix}{name}", value)


def constraints_of(kind: type) -> dict[str, Constraint]:
    """What the parameters of a class may be: its own `_constraints` and those of its bases.

    Parameters
    ----------
    kind : type
        The class.

    Returns
    -------
    dict of str to Constraint
        By the name of the parameter.
    """
    return _merged(kind)


@cache
def _merged(kind: Any) -> dict[str, Constraint]:
    found: dict[str, Constraint] = {}
    for base in reversed(kind.__mro__):
        found |= vars(base).get("_constraints", {})
    return found


def check_parameters(estimator: Any) -> None:
    """Refuse parameters that may not be what they are, before anything is done with them.

    Parameters
    ----------
    estimator : estimator
        Of a class that declares `_constraints`.

    Raises
    ------
    ValueError
        For the first parameter that may not.
    """
    for name, constraint in constraints_of(type(estimator)).items():
        if hasattr(estimator, name):
            constraint.check(name, getattr(estimator, name))


def did_you_mean(strangers: Iterable[str], known: Iterable[str]) -> str:
    """The known names that unknown ones are nearest to, as a question; nothing where none is near.

    Parameters
    ----------
    strangers : sequence of str
        Names that are not known.
    known : sequence of str
        Names that are.

    Returns
    -------
    str
        Such as ``" (did you mean 'n_shot'?)"``.
    """
    known = list(known)
    near = [name for stranger in strangers for name in get_close_matches(stranger, known, 1)]
    told = _listed([repr(name) for name in dict.fromkeys(near)]) if near else ""
    return f" (did you mean {told}?)" if told else ""


def _within(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    if low is None and high is None:
        return ""
    return f", at least {low:g}" if high is None else f", at most {high:g}"


def _between(value: Any, low: float | None, high: float | None) -> bool:
    return bool((low is None or value >= low) and (high is None or value <= high))


def _listed(parts: list[str]) -> str:
    """The parts with commas and "or"; a part that has commas of its own is closed by one."""
    if len(parts) == 1:
        return parts[0]
    *first, last = parts
    closed = ", " if "," in first[-1] else " "
    return f"{', '.join(first)}{closed}or {last}"


def in_short(value: Any) -> str:
    """How a value is written, not too long."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
