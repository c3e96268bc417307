"""What all few-shot estimators take: constructor parameters, ``encoder__*`` among them."""

from __future__ import annotations

import json
from typing import Any, Self

import torch
from sklearn.base import BaseEstimator
from torch import nn

from ..encoders import ENCODERS, LAYOUTS, is_own_network
from ..meta_init import MetaInit
from ..tasks import (
    ClassOf,
    Constraint,
    FilePath,
    Flag,
    Function,
    Kind,
    OneOf,
    Seed,
    Whole,
    did_you_mean,
)
from .device_choice import Device
from .validation import DTYPES, resolve_dtype


class HasParameters(BaseEstimator):
    """The parameters that all estimators share, and those of each that its learner takes.

    An estimator that has others beside writes a constructor of its own: scikit-learn reads
    parameters from its signature.
    """

    #: Parameters that are the learner's too, where None is what meta-training had, or this.
    _defaults: dict[str, Any] = {}
    #: What each parameter may be, beside what the bases say of theirs; `fit` checks it.
    _constraints: dict[str, Constraint] = {
        "meta_init": Kind(MetaInit, told="a MetaInit, a name") | FilePath() | None,
        "encoder": OneOf(*ENCODERS)
        | Kind(nn.Module, told="an nn.Module")
        | ClassOf(nn.Module, told="an nn.Module class")
        | None,
        "freeze_encoder": Flag(),
        "scale_inputs": Flag() | OneOf("auto"),
        "layout": OneOf(*LAYOUTS, "auto"),
        "n_augment": Whole(0),
        "augment": Function("a function augment(X, rng) -> X", 2) | None,
        "device": Device(),
        "dtype": OneOf(*DTYPES) | None,
        "random_state": Seed(),
    }
    #: Altered copies of each support row that `fit` adds, and what alters them.
    n_augment = 0
    augment: Any = None
    #: What estimators have that were pickled before there were these parameters.
    freeze_encoder = False
    scale_inputs: bool | str = "auto"
    layout = "auto"
    _fitted_dtype: str

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        device: str = "auto",
        dtype: str | None = None,
        random_state: Any = None,
        **encoder__params: Any,
    ):
        self.meta_init = meta_init
        self.encoder = encoder
        self.freeze_encoder = freeze_encoder
        self.scale_inputs = scale_inputs
        self.layout = layout
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _set_encoder_params(self, params: dict[str, Any]) -> None:
        strangers = [name for name in params if not name.startswith("encoder__")]
        if strangers:
            own = BaseEstimator.get_params(self, deep=False)
            raise TypeError(
                f"{type(self).__name__} got unexpected argument(s) {strangers}"
                f"{did_you_mean(strangers, own)}. Arguments of the encoder are written "
                "encoder__name=value."
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

    def set_params(self, **params: Any) -> Self:
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

    @property
    def _own_network(self) -> bool:
        """Whether the encoder is a network that is none of this package's."""
        return is_own_network(self.encoder)

    def _compute_dtype(self) -> torch.dtype:
        if self.dtype is None:
            if self.meta_init is None and not _computes_in_float32(self.encoder):
                return torch.float64
            return torch.float32
        return resolve_dtype(self.dtype)

    def _refuse_other_dtype(self) -> None:
        """Refuse to answer in another precision than `fit` computed in."""
        now = str(self._compute_dtype())
        if now != getattr(self, "_fitted_dtype", now):
            raise ValueError(
                f"dtype={self.dtype!r} computes in {now}, but fit computed in "
                f"{self._fitted_dtype}: call fit again after a change of dtype or meta_init."
            )


def _computes_in_float32(encoder: Any) -> bool:
    """Whether an encoder is a module that comes with weights, none of which need float64."""
    if not isinstance(encoder, nn.Module):
        return False
    kinds = {p.dtype for p in encoder.parameters() if p.is_floating_point()}
    return bool(kinds) and torch.float64 not in kinds
