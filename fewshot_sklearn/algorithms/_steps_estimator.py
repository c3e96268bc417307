"""Parameters of estimators that take gradient steps, and have no others."""

from __future__ import annotations

from typing import Any

from ..estimators import FewShotEstimator
from ..learners import InnerLoopEstimator
from ..tasks import Flag, Positive, Whole


class StepsEstimator(InnerLoopEstimator, FewShotEstimator):
    """Base class of those with a number of steps, a step size, and second derivatives or none."""

    _constraints = {
        "n_steps": Whole(0) | None,
        "inner_lr": Positive() | None,
        "first_order": Flag() | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        n_steps: int | None = None,
        inner_lr: float | None = None,
        first_order: bool | None = None,
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
        self.n_steps = n_steps
        self.inner_lr = inner_lr
        self.first_order = first_order
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)
