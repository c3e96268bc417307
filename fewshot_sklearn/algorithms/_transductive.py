"""What the estimators share that answer all rows of a call together."""

from __future__ import annotations

from ..estimators import FewShotClassifier
from ..learners import Learner, State
from ..meta_init import MetaInit

#: Algorithms whose meta-inits hold an encoder that suits them: class means of its features.
OF_CLASS_MEANS = ("ProtoNet", "NearestClassMean")


class TransductiveClassifier(FewShotClassifier):
    """Base class of those with an encoder: they take that of prototypes, too."""

    def _check_algorithm(self, init: MetaInit) -> None:
        if init.algorithm not in OF_CLASS_MEANS:
            super()._check_algorithm(init)

    def _state_for(self, learner: Learner, init: MetaInit) -> State:
        """Of another algorithm's meta-init what they have in common; the rest as it starts."""
        state = init.state_dict()
        if init.algorithm == self._learner_class.__name__:
            return state
        return {name: state.get(name, own) for name, own in learner.state_dict().items()}

    def _takes_known_classes(self) -> bool:
        return False  # what is known of them is prototypes, which move here
