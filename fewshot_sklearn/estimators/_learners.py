"""The learner of an estimator: built anew, or rebuilt from a meta-init that fits it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import clone
from torch import nn

from ..encoders import (
    ENCODERS,
    FIXED,
    TableEncoder,
    channels_last,
    how_rows_come,
    layout_taken,
    make_encoder,
    takes_padding,
    wants_whole_numbers,
)
from ..learners import Learner, OwnRandomNumbers, State
from ..meta_init import MetaInit
from ..pretrained import find_meta_init
from ..tasks import LEAST_TIMES, TableFormat
from ._own_network import OF_ENCODER, digest_of, left_to_the_user
from ._parameters import HasParameters
from .device_choice import resolve_device
from .known_classes import classes_of_past
from .pixels import told_of_channels

#: What building a learner from any values raises.
_WRONG = (
    ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
#: Columns that an error lists, at most.
MOST_LISTED = 30
#: Numbers and tensors, at most, that a module of the user's own makes for two rows.
_WORK, _WORK_TENSORS = 2**24, 2**12
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
        whole: bool = False,
    ) -> Learner:
        """Build a learner without past, from a seed of its own that leaves torch's alone.

        With `whole`, rows reach the encoder as whole numbers: see `_takes_whole`.
        """
        encoder = "identity" if self.encoder is None else self.encoder
        init = self._resolve_meta_init()  # whose sizes a training that goes on from it has
        sizes = nullcontext() if init is None else init.declared_sizes(self._beside())
        if whole and self.scale_inputs is True:
            raise ValueError(
                "scale_inputs=True scales rows, but these are integers that the encoder looks up. "
                'Leave scale_inputs="auto".'
            )
        with OwnRandomNumbers(seed), sizes:
            built = self._built(
                encoder, input_shape, self._encoder_params(), table, init, whole,
                self.freeze_encoder,
            )  # fmt: skip
            trained = self._hyperparameters() if past else None
            params = self._learner_params(trained)
            if n_known:
                params["n_known"] = n_known
            learner = self._learner_class(built, input_shape, n_outputs, **params)
        learner.scales_inputs = self._scales(whole)
        if past:  # what cannot be told in the end is not worth hours of training
            MetaInit.from_state({}, self._spec(learner), table=table)
        return learner

    def _built(
        self,
        encoder: Any,
        shape: tuple[int, ...],
        params: dict[str, Any],
        table: TableFormat | None,
        init: MetaInit | None,
        whole: bool,
        frozen: bool,
    ) -> nn.Module:
        """The encoder, with rows laid out as the meta-init has it, or as the user says."""
        layout = self.layout if init is None else self._layout_of(init)
        codes = self._code_sizes(table, encoder)
        built = make_encoder(encoder, shape, params, codes, layout or None, whole)
        if frozen:  # what categories are like is learned all the same
            (built.encoder if isinstance(built, TableEncoder) else built).requires_grad_(False)
        return built

    @property
    def _ragged(self) -> bool:
        """Whether rows are series of any length, which NaN may follow."""
        encoder, init = self.encoder, self.meta_init
        if encoder is None and init is not None:
            try:
                return bool(self._resolve_meta_init().inputs.get("ragged", False))  # type: ignore[union-attr]
            except (ValueError, OSError):
                return False  # fit will say what is wrong
        return takes_padding(encoder)

    def _layout_of(self, init: MetaInit) -> str:
        known = init.inputs.get("layout", "")
        if self.layout != "auto" and known and self.layout != known:
            raise ValueError(
                f"layout={self.layout!r}, but {init.told} was meta-trained on images laid out as "
                f"{known}. Turn the axes of X, and leave layout out."
            )
        return known

    def _scales(self, whole: bool) -> bool:
        """Whether rows are brought to a scale, where no meta-init says so."""
        if self.scale_inputs == "auto":
            return not whole and not isinstance(self.encoder, nn.Module)
        return bool(self.scale_inputs)

    def _takes_whole(self, X: np.ndarray) -> bool:
        """Whether rows are to reach the encoder as whole numbers, as the meta-init has it."""
        init = self._resolve_meta_init()
        if init is not None:
            return bool(init.inputs.get("integers", False))
        integers = X.dtype.kind in "iu" and X.dtype != np.uint8
        if not self._own_network or not (integers or (np.rint(X) == X).all()):
            return False
        with OwnRandomNumbers(0):
            network = make_encoder(self.encoder, X.shape[1:], self._encoder_params())
        return wants_whole_numbers(network, X.shape[1:], integers)

    def _beside(self) -> tuple[int, int]:
        """Numbers and tensors of a module of the user's own, which no meta-init declares."""
        if not isinstance(self.encoder, nn.Module):
            return 0, 0
        tensors = [*self.encoder.parameters(), *self.encoder.buffers()]
        return sum(t.numel() for t in tensors) + _WORK, len(tensors) + _WORK_TENSORS

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
        built: dict[str, Any] = {"name": name, "params": params}
        if self.freeze_encoder:
            built["frozen"] = True
        spec = {
            "algorithm": self._learner_class.__name__,
            "hyperparameters": self._hyperparameters(),
            "encoder": built,
            "input_shape": list(learner.input_shape),
            "n_outputs": learner.n_outputs,
        }
        inputs = self._inputs_of(learner)
        return spec | {"inputs": inputs} if inputs else spec

    @staticmethod
    def _inputs_of(learner: Learner) -> dict[str, Any]:
        """What a meta-init says of how rows come, where it is not the usual way."""
        encoder, told = learner.encoder, how_rows_come(learner.encoder)
        moved = told is not None and told.move is not None
        layout = layout_taken(encoder, moved, learner.input_shape)
        inputs: dict[str, Any] = {"layout": layout} if layout else {}
        if learner.integers:
            inputs["integers"] = True
        if not learner.scales_inputs:
            inputs["scaled"] = False
        if takes_padding(encoder):
            inputs["ragged"] = True
        return inputs

    def _left_to_the_user(
        self, learner: Learner, spec: dict[str, Any]
    ) -> tuple[State, dict[str, Any]]:
        """What a meta-init need not hold, as the user's own module does; the spec then says so."""
        theirs = left_to_the_user(learner, self.encoder)
        if theirs:
            spec = spec | {"encoder": spec["encoder"] | {"given": digest_of(theirs)}}
        return theirs, spec

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
        found, own = init.algorithm, self._learner_class_of(init).__name__
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
        spec, names = init.fixed_spec, init.feature_names
        trained = tuple(spec["input_shape"])
        if names is not None and columns is not None and columns != names:
            raise ValueError(
                f"X has columns {_listed(columns)}, but {init.told} was meta-trained on columns "
                f"{_listed(names)}, in that order{_difference(columns, names)}."
            )
        fits = len(shape) == 1 if spec.get("any_width") else shape == trained
        if init.inputs.get("ragged"):
            fits = len(shape) in (1, 2) and shape[0] >= LEAST_TIMES
        if not fits:
            raise ValueError(
                f"X has rows of shape {shape}, but {init.told} was meta-trained on rows of shape "
                f"{trained}.{_REFITTED if len(shape) == len(trained) == 1 else ''}"
                f"{told_of_channels(shape, trained)}"
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
    def _rebuild(self, init: MetaInit, device: torch.device | None = None) -> Learner:
        """The learner of a meta-init, ready to compute; built once and kept with it for a while."""
        device = resolve_device(self.device) if device is None else device
        spec, encoder, params = init.fixed_spec, self.encoder, self._encoder_params()
        trained = spec["hyperparameters"] if spec.get("past", True) else None
        known = classes_of_past(init)
        with _refused_by_name(init):
            learner_params = self._learner_params(trained)
            if known is not None and self._learner_class.knows_classes:
                learner_params["n_known"] = len(known)
        dtype = self._compute_dtype()
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
        key = (*key, self.freeze_encoder, encoder if isinstance(encoder, str) else id(encoder))
        if (built := init.built.get(key)) is not None:
            return built[0]
        self._check_encoder(init, spec, encoder, params)
        shape, whole = tuple(spec["input_shape"]), bool(init.inputs.get("integers", False))
        frozen = bool(self.freeze_encoder or spec["encoder"].get("frozen", False))
        sizes = init.declared_sizes(self._beside())
        # not on torch's "meta" device: whatever computes there brings in the compiler, for seconds
        with _refused_by_name(init), OwnRandomNumbers(0), sizes:
            network = self._built(encoder, shape, params, init.table, init, whole, frozen)
            learner = learner_class(network, shape, spec["n_outputs"], **learner_params)
        self._load(learner, init, assign=True)
        learner.scales_inputs = bool(init.inputs.get("scaled", True))
        learner = learner.to(device, dtype).eval().requires_grad_(False)
        if not learner.frozen:
            channels_last(learner.encoder)
        learner.shared = True
        # the encoder is kept so that its id stays its own
        return init.built.keep(key, (learner, encoder))[0]

    def _load(self, learner: Learner, init: MetaInit, assign: bool = False) -> None:
        state, own = self._state_for(learner, init), learner.state_dict()
        state = self._with_given(init, state, own)
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

    @staticmethod
    def _with_given(init: MetaInit, state: State, own: State) -> State:
        """A meta-init's state, with what it leaves to the user's module as that has it."""
        digest = init.fixed_spec["encoder"].get("given")
        if digest is None:
            return state
        names = (name for name in own if name.startswith(OF_ENCODER) and name not in state)
        given = {name: own[name] for name in names}
        if digest_of(given) != digest:
            raise ValueError(
                f"{init.told} was meta-trained on top of an encoder with other weights, which it "
                "does not keep, as they were not trained. Pass the module with the weights it had "
                "then."
            )
        return state | given

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
