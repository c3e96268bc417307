"""Estimators that start from what artificial tables taught, where there is no past."""

from __future__ import annotations

from typing import Any

from ..encoders import Identity, Shape
from ..estimators import LearnsTable
from ..learners import Learner, OwnRandomNumbers
from ..meta_init import MetaInit
from ..pretrained import load_meta_init
from ..tasks import TableFormat
from ._table_learner import TableLearner


class StartsFromTables(LearnsTable):
    """Without a meta-init, an encoder or sizes of their own they take one for any table."""

    #: Name of the meta-init for tables that have no past, and the learner that reads it.
    _for_any_table: str
    _table_learner: type[TableLearner]

    def _default_meta_init(self, shape: tuple[int, ...]) -> MetaInit | None:
        own = self.encoder, *(getattr(self, name) for name in self._defaults)
        if len(shape) > 1 or self._encoder_params() or any(value is not None for value in own):
            return None
        return load_meta_init(self._for_any_table)

    def _learner_class_of(self, init: MetaInit) -> type[Learner]:
        if init.fixed_spec["algorithm"] == self._table_learner.__name__:
            return self._table_learner
        return super()._learner_class_of(init)

    def _new_learner(
        self,
        input_shape: Shape,
        n_outputs: int | None,
        seed: int,
        past: bool = True,
        table: TableFormat | None = None,
        n_known: int = 0,
        whole: bool = False,
    ) -> Learner:
        init = self._resolve_meta_init()
        if init is None or self._learner_class_of(init) is self._learner_class:
            return super()._new_learner(input_shape, n_outputs, seed, past, table, n_known, whole)
        sizes = self._hyperparameters(init.fixed_spec["hyperparameters"])
        with OwnRandomNumbers(seed), init.declared_sizes():
            return self._table_learner(Identity(input_shape), input_shape, n_outputs, **sizes)

    def _spec(self, learner: Learner) -> dict[str, Any]:
        spec = super()._spec(learner)
        if isinstance(learner, TableLearner):
            spec |= {"algorithm": type(learner).__name__, "any_width": True}
        return spec

    def _begin_without_rows(self) -> MetaInit:
        init = super()._begin_without_rows()
        if "any_width" in init.fixed_spec:  # nothing is known of the rows to come
            del self.n_features_in_
        return init

    # ------------------------------------------------------------------ what rows may hold
    def _learns_table(self) -> bool:
        init = self._resolve_meta_init()
        if init is None:
            return self._default_meta_init((1,)) is not None
        return bool(init.fixed_spec.get("any_width")) and init.table is None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        try:
            tags.input_tags.allow_nan = self._ragged or self._learns_table()
        except (ValueError, OSError):
            tags.input_tags.allow_nan = False  # tags are no place to complain: fit will
        return tags
