"""What all few-shot estimators share: parameters, meta-init, device, adaptation."""

from __future__ import annotations

import json
import os
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_array, check_random_state, check_scalar, estimator_html_repr
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from ..encoders import ENCODERS, channels_last, make_encoder
from ..learners import Learner, State
from ..meta_init import MetaInit
from ..pretrained import find_meta_init
from ..tasks import Support, with_altered_copies
from .explanation import encoder_features, explain

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
#: Types of X that are kept as they are; all others become float64.
ROW_DTYPES = [np.float64, np.float32, np.uint8]


def resolve_device(device: Any) -> torch.device:
    """Return the torch device meant by ``"auto"`` or by a device name.

    Raises
    ------
    ValueError
        When the device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be 'auto' or a torch device, got {device!r}.") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device={device!r} was asked for, but this machine has no usable GPU. Use "
            "device='auto' or device='cpu'."
        )
    return resolved


class FewShotEstimator(BaseEstimator):
    """Base class of the estimators: `fit` is `Learner.adapt`, `predict` is `Learner.predict`."""

    _learner_class: type[Learner]
    _defaults: dict[str, Any] = {}
    #: Altered copies of each support row that `fit` adds, and what alters them.
    n_augment = 0
    augment: Any = None

    # ------------------------------------------------------------------ parameters
    def _set_encoder_params(self, params: dict[str, Any]) -> None:
        strangers = [name for name in params if not name.startswith("encoder__")]
        if strangers:
            raise TypeError(
                f"{type(self).__name__} got unexpected argument(s) {strangers}. Arguments of the "
                "encoder are written encoder__name=value."
            )
        self.__dict__.update(params)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, ``encoder__*`` included.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the parameters of nested estimators.

        Returns
        -------
        dict
            Parameter names and values.
        """
        own = {k: v for k, v in vars(self).items() if k.startswith("encoder__")}
        return super().get_params(deep) | own

    def set_params(self, **params: Any) -> FewShotEstimator:
        """Set parameters, ``encoder__*`` included.

        Parameters
        ----------
        **params : dict
            Parameter names and values.

        Returns
        -------
        self : object
            The estimator.
        """
        self.__dict__.update({k: v for k, v in params.items() if k.startswith("encoder__")})
        super().set_params(**{k: v for k, v in params.items() if not k.startswith("encoder__")})
        return self

    def _encoder_params(self) -> dict[str, Any]:
        prefix = "encoder__"
        own = {k.removeprefix(prefix): v for k, v in vars(self).items() if k.startswith(prefix)}
        if isinstance(self.encoder, str):  # as a meta-init keeps them
            try:
                return json.loads(json.dumps(own))
            except TypeError as error:
                raise ValueError(f"encoder__* must be plain values, got {own}.") from error
        return own

    def _hyperparameters(self, trained: dict[str, Any] | None = None) -> dict[str, Any]:
        """Own parameters; where None, what the meta-init was trained with, or the default."""
        fallback = self._defaults | (trained or {})
        own = {name: getattr(self, name) for name in self._defaults}
        return {name: fallback[name] if v is None else v for name, v in own.items()}

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        """Arguments of the learner, given the hyperparameters of meta-training (None: no past)."""
        return self._hyperparameters(trained)

    def _as_trained(self) -> FewShotEstimator:
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

    def _compute_dtype(self) -> torch.dtype:
        if self.dtype is None:
            return torch.float64 if self.meta_init is None else torch.float32
        if self.dtype not in _DTYPES:
            raise ValueError(f"dtype must be one of {list(_DTYPES)} or None, got {self.dtype!r}.")
        return _DTYPES[self.dtype]

    # ------------------------------------------------------------------ learners
    def _new_learner(
        self, input_shape: tuple[int, ...], n_outputs: int | None, seed: int, past: bool = True
    ) -> Learner:
        """Build a learner without past, from a seed of its own that leaves torch's alone."""
        encoder = "identity" if self.encoder is None else self.encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            built = make_encoder(encoder, input_shape, self._encoder_params())
            trained = self._hyperparameters() if past else None
            return self._learner_class(
                built, input_shape, n_outputs, **self._learner_params(trained)
            )

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

    def _resolve_meta_init(self) -> MetaInit | None:
        init = self.meta_init
        if isinstance(init, str | os.PathLike):
            init = find_meta_init(init)
        if init is None:
            return None
        if not isinstance(init, MetaInit):
            raise ValueError(f"meta_init must be a MetaInit, a name, a path or None, got {init!r}.")
        self._check_algorithm(init)
        return init

    def _check_algorithm(self, init: MetaInit) -> None:
        found, own = init.spec["algorithm"], self._learner_class_of(init).__name__
        if found != own:
            raise ValueError(
                f"{init!r} was meta-trained as {found}; {type(self).__name__} needs one of {own}."
            )

    def _learner_class_of(self, init: MetaInit) -> type[Learner]:
        """The class of a meta-init's learner, for estimators that read more than one."""
        return self._learner_class

    def _rebuild(self, init: MetaInit) -> Learner:
        """The learner of a meta-init, ready to compute; built once a process and kept with it."""
        spec, encoder, params = init.spec, self.encoder, self._encoder_params()
        trained = spec["hyperparameters"] if spec.get("past", True) else None
        learner_params = self._learner_params(trained)
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
        if key in init.built:
            return init.built[key][0]
        self._check_encoder(init, spec, encoder, params)
        shape = tuple(spec["input_shape"])
        # not on torch's "meta" device: whatever computes there brings in the compiler, for seconds
        with torch.random.fork_rng(devices=[]):
            built = make_encoder(encoder, shape, params)
            learner = learner_class(built, shape, spec["n_outputs"], **learner_params)
        self._load(learner, init, assign=True)
        learner = learner.to(device, dtype).eval().requires_grad_(False)
        channels_last(learner.encoder)
        init.built[key] = learner, encoder  # the encoder is kept so that its id stays its own
        return learner

    def _load(self, learner: Learner, init: MetaInit, assign: bool = False) -> None:
        try:
            learner.load_state_dict(self._state_for(learner, init), assign=assign)
        except RuntimeError as error:
            raise ValueError(
                f"{init!r} does not fit the encoder {type(learner.encoder).__name__}: {error}"
            ) from error

    def _state_for(self, learner: Learner, init: MetaInit) -> State:
        return init.state_dict()

    def _check_encoder(self, init: MetaInit, spec: Any, encoder: Any, params: Any) -> None:
        asked = spec["encoder"]["name"]
        if encoder is None:
            raise ValueError(
                f"{init!r} was meta-trained with an encoder of your own, {asked}. Pass it: "
                f"{type(self).__name__}(meta_init, encoder=...)."
            )
        if isinstance(encoder, str) and (encoder, params) != (asked, spec["encoder"]["params"]):
            raise ValueError(
                f"{init!r} was meta-trained with encoder={asked!r} and parameters "
                f"{spec['encoder']['params']}, not {encoder!r} and {params}. Leave encoder and "
                "encoder__* out to take the meta-init's."
            )

    def _adapt(self, X: np.ndarray, y: np.ndarray, w: np.ndarray, n_outputs: int | None) -> None:
        """`Learner.adapt` on validated arrays; y are memberships or targets, two-dimensional."""
        if n := check_scalar(self.n_augment, "n_augment", Integral, min_val=0):
            rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
            X, y, w = with_altered_copies(X, y, w, n, self.augment, rng)
        dtype, device = self._compute_dtype(), resolve_device(self.device)
        support = Support(*(_tensor(a, dtype, device) for a in (X, y, w)))
        self.meta_init_ = self._meta_init_for(support, n_outputs)
        with torch.no_grad():
            state = self._rebuild(self.meta_init_).adapt(support)
        self.state_ = {name: _array(t) for name, t in state.items()}

    def _meta_init_for(self, support: Support, n_outputs: int | None) -> MetaInit:
        """The meta-init, if it fits these rows; without one, that of a learner without past."""
        shape, rng = tuple(support.X.shape[1:]), check_random_state(self.random_state)
        init = self._resolve_meta_init() or self._default_meta_init(shape)
        if init is None:
            seed = rng.randint(2**31)
            learner = self._new_learner(shape, n_outputs, seed, past=False)
            learner = learner.to(support.X.device, support.X.dtype)
            scaled = support.X if learner.scales_inputs_without_past else None
            learner.fit_scale(scaled, support.y, support.w)
            init = MetaInit.from_state(learner.state_dict(), self._spec(learner) | {"past": False})
        self._check_fits(init, shape, n_outputs)
        return init

    def _default_meta_init(self, shape: tuple[int, ...]) -> MetaInit | None:
        """What `fit` adapts from where no meta-init is given; None is a learner without past."""
        return None

    def _begin_without_rows(self) -> MetaInit:
        """The meta-init, and what `fit` would have learned of the rows' format."""
        init = self._resolve_meta_init()
        if init is None:
            raise ValueError(
                f"{type(self).__name__} has no meta_init, so it knows nothing without rows. "
                "Meta-train it first, or call fit."
            )
        self._support = None, None
        self.n_features_in_ = init.spec["input_shape"][0]
        if "feature_names" in init.spec:
            self.feature_names_in_ = np.array(init.spec["feature_names"], dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return init

    def _check_fits(self, init: MetaInit, shape: tuple[int, ...], n_outputs: int | None) -> None:
        spec = init.spec
        trained = tuple(spec["input_shape"])
        fits = len(shape) == 1 if spec.get("any_width") else shape == trained
        if not fits:
            raise ValueError(
                f"X has rows of shape {shape}, but {init!r} was meta-trained on rows of shape "
                f"{trained}."
            )
        names = spec.get("feature_names")
        own = getattr(self, "feature_names_in_", None)
        if names is not None and own is not None and list(own) != names:
            raise ValueError(
                f"X has columns {list(own)}, but {init!r} was meta-trained on columns {names}, in "
                "that order."
            )
        if n_outputs is not None and n_outputs != spec["n_outputs"]:
            raise ValueError(
                f"y has {n_outputs} output(s), but {init!r} was meta-trained on "
                f"{spec['n_outputs']}."
            )

    def _html_repr(self) -> str:
        """The diagram that notebooks show, with the card of the meta-init beneath."""
        diagram = estimator_html_repr(self)
        try:
            init = self._resolve_meta_init()
        except (ValueError, OSError):
            init = None  # a diagram is no place to complain: fit will
        return diagram if init is None else diagram + init._repr_html_()

    # ------------------------------------------------------------------ features
    def embed(self, X: Any) -> np.ndarray:
        """Embed rows with the encoder, as meta-training left it; `fit` is not needed.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out)
            Their features.

        Raises
        ------
        ValueError
            When X does not have the shape that the meta-init was trained on.
        NotFittedError
            When there is neither a meta-init nor a fit.
        """
        return encoder_features(*self._learner_and_rows(X))

    def _init_in_use(self) -> MetaInit:
        """The meta-init; without one, that of the last `fit`."""
        if self.meta_init is None:
            check_is_fitted(self)
        return self._resolve_meta_init() or self.meta_init_

    def _learner_and_rows(self, X: Any) -> tuple[Learner, Tensor]:
        """The learner, and rows as it takes them; with a meta-init `fit` is not needed."""
        init = self._init_in_use()
        X = check_array(X, dtype=ROW_DTYPES, allow_nd=True)
        self._check_fits(init, X.shape[1:], None)
        rows = _tensor(X, self._compute_dtype(), resolve_device(self.device))
        return self._rebuild(init), rows

    def explain(self, X: Any, n_neighbors: int = 3, past: Any = None) -> Any:
        """Say what each prediction rests on: the support rows, and past tasks, that are nearest.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows to explain the predictions of.
        n_neighbors : int, default=3
            Number of nearest support rows, and of nearest past tasks, to tell.
        past : TaskMemory or None, default=None
            Past tasks to compare with.

        Returns
        -------
        pandas.DataFrame
            For each row asked for, one line for each neighbour, nearest first; see
            `fewshot_sklearn.estimators.explain`.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            When the estimator was fitted on no rows and no past tasks are given.
        """
        check_is_fitted(self)
        X_support, y_support = getattr(self, "_support", (None, None))
        return explain(self, X, X_support, y_support, n_neighbors=n_neighbors, past=past)

    # ------------------------------------------------------------------ after fit
    def _state(self, name: str) -> np.ndarray:
        check_is_fitted(self)
        if name not in self.state_:
            raise AttributeError(f"{type(self).__name__} was fitted on no rows: no {name!r}.")
        return self.state_[name]

    def _fitted_learner_and_rows(self, X: Any) -> tuple[Any, Tensor]:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=ROW_DTYPES, reset=False, allow_nd=True)
        spec = self.meta_init_.spec
        shape = tuple(spec["input_shape"])
        # of any width: then as wide as in fit, which is checked above
        if X.ndim != 2 if spec.get("any_width") else X.shape[1:] != shape:
            raise ValueError(
                f"X has rows of shape {X.shape[1:]}, but fit saw rows of shape {shape}."
            )
        learner = self._rebuild(self.meta_init_)
        return learner, _tensor(X, self._compute_dtype(), resolve_device(self.device))

    def _outputs(self, X: Any) -> Any:
        learner, rows = self._fitted_learner_and_rows(X)
        state: State = {k: torch.tensor(v, device=rows.device) for k, v in self.state_.items()}
        with torch.no_grad():
            return learner.predict(state, rows)


def adapts_in_batches(estimator: Any) -> bool:
    """Whether many tasks can be adapted to in one call: a meta-trained estimator of ours.

    Parameters
    ----------
    estimator : estimator
        Any scikit-learn estimator.

    Returns
    -------
    bool
        False too where `fit` adds altered copies of its rows.
    """
    ours = isinstance(estimator, FewShotEstimator)
    return ours and estimator.meta_init is not None and not estimator.n_augment


def _tensor(array: np.ndarray, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(np.ascontiguousarray(array), dtype=dtype, device=device)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()


def check_weights(sample_weight: Any, n_rows: int) -> np.ndarray:
    if sample_weight is None:
        return np.ones(n_rows)
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.ndim == 0:
        weights = np.full(n_rows, float(weights))
    if weights.ndim != 1:
        raise ValueError("Sample weights must be 1D array or scalar")
    if weights.shape != (n_rows,):
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {(n_rows,)}: one weight a row."
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("sample_weight must be finite and at least zero, got negative or NaN.")
    if not weights.any():
        raise ValueError("sample_weight must hold at least one positive weight; all are zero.")
    return weights
