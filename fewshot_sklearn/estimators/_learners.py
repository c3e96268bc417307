"""The learner of an estimator: built anew, or rebuilt from a meta-init that fits it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Self

from sklearn.base import clone
from torch import nn

from ..encoders import ENCODERS, FIXED, channels_last, make_encoder
from ..learners import Learner, OwnRandomNumbers, State
from ..meta_init import MetaInit
from ..pretrained import find_meta_init
from ..tasks import TableFormat
from ._parameters import HasParameters
from .known_classes import classes_of_past
from .validation import resolve_device

#: What building a learner from any values raises.
_WRONG = (
    ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
#: Columns that an error lists, at most.
MOST_LISTED = 30
#: Where rows of another width mostly come from.
_REFITTED = (
    " If steps of a pipeline come before, they were fitted anew on these few rows: an encoder of "
    "categories, or a choice of columns, then gives others than on the past. Fit such steps on the "
    "past once, and keep them so by sklearn.frozen.FrozenEstimator."
)


class HasLearner(HasParameters):
    """What the parameters, the meta-init among them, make of the learner's class."""

    _learner_class: type[Learner]

    # ------------------------------------------------------------------ without a past
    def _new_learner(
        self,
        input_shape: tuple[int, ...],
        n_outputs: int | None,
        seed: int,
        past: bool = True,
        table: TableFormat | None = None,
        n_known: int = 0,
    ) -> Learner:
        """Build a learner without past, from a seed of its own that leaves torch's alone."""
        encoder = "identity" if self.encoder is None else self.encoder
        init = self._resolve_meta_init()  # whose sizes a training that goes on from it has
        sizes = nullcontext() if init is None else init.declared_sizes()
        with OwnRandomNumbers(seed), sizes:
            codes = self._code_sizes(table, encoder)
            built = make_encoder(encoder, input_shape, self._encoder_params(), codes)
            trained = self._hyperparameters() if past else None
            params = self._learner_params(trained)
            if n_known:
                params["n_known"] = n_known
            learner = self._learner_class(built, input_shape, n_outputs, **params)
        if past:  # what cannot be told in the end is not worth hours of training
            MetaInit.from_state({}, self._spec(learner), table=table)
        return learner

    @staticmethod
    def _code_sizes(table: TableFormat | None, encoder: Any) -> list[int]:
        """Of rows of a table, sizes of the codes that the encoder looks up; 0 for those it leaves.

        One that learns nothing goes by the mean targets of categories, where they are known.
        """
        if table is None:
            return []
        leaves = isinstance(encoder, str) and encoder in FIXED and table.has_means
        return [0 if leaves else size for size in table.sizes]

    def _spec(self, learner: Learner) -> dict[str, Any]:
        encoder = self.encoder
        if encoder is None:
            encoder = "identity"
        elif isinstance(encoder, nn.Module):
            encoder = type(encoder)
        if isinstance(encoder, type):
            name, params = f"{encoder.__module__}.{encoder.__qualname__}", {}
        else:
            name, params = encoder, self._encoder_params()
        return {
            "algorithm": self._learner_class.__name__,
            "hyperparameters": self._hyperparameters(),
            "encoder": {"name": name, "params": params},
            "input_shape": list(learner.input_shape),
            "n_outputs": learner.n_outputs,
        }

    # ------------------------------------------------------------------ the meta-init
    def _resolve_meta_init(self) -> MetaInit | None:
        init = self.meta_init
        if isinstance(init, str | os.PathLike):
            init = find_meta_init(init)
        if init is None:
            return None
        if not isinstance(init, MetaInit):
            raise ValueError(f"meta_init must be a MetaInit, a name, a path or None, got {init!r}.")
        if lacks := init.lacks:
            raise ValueError(
                f"{init.told} cannot be rebuilt: its spec has no {', '.join(lacks)}. Meta-train "
                "it again, or save it again from where it was made."
            )
        self._check_algorithm(init)
        return init

    def _check_algorithm(self, init: MetaInit) -> None:
        found, own = init.spec["algorithm"], self._learner_class_of(init).__name__
        if found != own:
            raise ValueError(
                f"{init.told} was meta-trained as {found}; {type(self).__name__} needs one of "
                f"{own}."
            )

    def _learner_class_of(self, init: MetaInit) -> type[Learner]:
        """The class of a meta-init's learner, for estimators that read more than one."""
        return self._learner_class

    def _check_fits(
        self,
        init: MetaInit,
        shape: tuple[int, ...],
        n_outputs: int | None,
        columns: list[str] | None = None,
    ) -> None:
        """Refuse rows of another shape or other columns, and other numbers of targets."""
        spec, names = init.spec, init.feature_names
        trained = tuple(spec["input_shape"])
        if names is not None and columns is not None and columns != names:
            raise ValueError(
                f"X has columns {_listed(columns)}, but {init.told} was meta-trained on columns "
                f"{_listed(names)}, in that order{_difference(columns, names)}."
            )
        fits = len(shape) == 1 if spec.get("any_width") else shape == trained
        if not fits:
            raise ValueError(
                f"X has rows of shape {shape}, but {init.told} was meta-trained on rows of shape "
                f"{trained}.{_REFITTED if len(shape) == len(trained) == 1 else ''}"
            )
        given = None if spec.get("any_width") else n_outputs  # of any number of targets, too
        if given is not None and given != spec["n_outputs"]:
            raise ValueError(
                f"y has {n_outputs} output(s), but {init.told} was meta-trained on "
                f"{spec['n_outputs']}."
            )

    def _as_trained(self) -> Self:
        """A clone in which the meta-init's encoder and hyperparameters are written out."""
        init = self._resolve_meta_init()
        if init is None:
            return self
        spec, out = init.spec, clone(self)
        name, params = spec["encoder"]["name"], spec["encoder"]["params"]
        if self.encoder is None and name in ENCODERS:
            own = self._encoder_params() or params
            out.set_params(encoder=name, **{f"encoder__{k}": v for k, v in own.items()})
        return out.set_params(**self._hyperparameters(spec["hyperparameters"]))

    # ------------------------------------------------------------------ rebuilt from it
    def _rebuild(self, init: MetaInit) -> Learner:
        """The learner of a meta-init, ready to compute; built once and kept with it for a while."""
        spec, encoder, params = init.spec, self.encoder, self._encoder_params()
        trained = spec["hyperparameters"] if spec.get("past", True) else None
        with _refused_by_name(init):
            learner_params = self._learner_params(trained)
            if (known := classes_of_past(init)) is not None:
                learner_params["n_known"] = len(known)
        dtype, device = self._compute_dtype(), resolve_device(self.device)
        named = spec["encoder"]["name"] in ENCODERS
        if named and encoder is None:
            encoder, params = spec["encoder"]["name"], params or spec["encoder"]["params"]
        learner_class = self._learner_class_of(init)
        key: tuple[Any, ...] = (
            learner_class,
            repr(sorted(learner_params.items())),
            repr(sorted(params.items())),
            dtype,
            device,
        )
        key = (*key, encoder if isinstance(encoder, str) else id(encoder))
        if (built := init.built.get(key)) is not None:
            return built[0]
        self._check_encoder(init, spec, encoder, params)
        shape = tuple(spec["input_shape"])
        # not on torch's "meta" device: whatever computes there brings in the compiler, for seconds
        with _refused_by_name(init), OwnRandomNumbers(0), init.declared_sizes():
            network = make_encoder(encoder, shape, params, self._code_sizes(init.table, encoder))
            learner = learner_class(network, shape, spec["n_outputs"], **learner_params)
        self._load(learner, init, assign=True)
        learner = learner.to(device, dtype).eval().requires_grad_(False)
        channels_last(learner.encoder)
        learner.shared = True
        # the encoder is kept so that its id stays its own
        return init.built.keep(key, (learner, encoder))[0]

    def _load(self, learner: Learner, init: MetaInit, assign: bool = False) -> None:
        state = self._state_for(learner, init)
        own = learner.state_dict()
        other = [
            name
            for name, t in state.items()
            if name in own and own[name].is_floating_point() != t.is_floating_point()
        ]
        try:
            if other:
                raise TypeError(f"{other} are of another kind of numbers")
            learner.load_state_dict(state, assign=assign)
        except (RuntimeError, TypeError, IndexError) as error:
            raise ValueError(
                f"{init.told} does not fit the encoder {type(learner.encoder).__name__}: {error}"
            ) from error

    def _state_for(self, learner: Learner, init: MetaInit) -> State:
        return init.state_dict()

    def _check_encoder(self, init: MetaInit, spec: Any, encoder: Any, params: Any) -> None:
        asked = spec["encoder"]["name"]
        if encoder is None:
            raise ValueError(
                f"{init.told} was meta-trained with an encoder of your own, {asked}. Pass it: "
                f"{type(self).__name__}(meta_init, encoder=...)."
            )
        if isinstance(encoder, str) and (encoder, params) != (asked, spec["encoder"]["params"]):
            raise ValueError(
                f"{init.told} was meta-trained with encoder={asked!r} and parameters "
                f"{spec['encoder']['params']}, not {encoder!r} and {params}. Leave encoder and "
                "encoder__* out to take the meta-init's."
            )


def _listed(names: list[str]) -> str:
    """Names, of many the first."""
    return str(names) if len(names) <= MOST_LISTED else f"{str(names[:MOST_LISTED])[:-1]}, ...]"


def _difference(columns: list[str], names: list[str]) -> str:
    """Which are missing and which too many."""
    lacks = [name for name in names if name not in columns]
    more = [name for name in columns if name not in names]
    told = [f"lacks {_listed(lacks)}"] if lacks else []
    told += [f"has {_listed(more)} beside"] if more else []
    return f": it {' and '.join(told)}" if told else ""


@contextmanager
def _refused_by_name(init: MetaInit) -> Iterator[None]:
    """Refuse a spec from which no learner can be built, whatever goes wrong there."""
    try:
        yield
    except _WRONG as error:
        why = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}."
        raise ValueError(
            f"{why} So {init.told} cannot be rebuilt, or not with what was given beside it."
        ) from error
