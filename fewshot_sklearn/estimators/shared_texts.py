"""What the estimators' docstrings say alike, written once.

Constructors spell their parameters out, since scikit-learn reads them there. What a shared one
means stands here; a class docstring has, in the place of the entry, a line with nothing but its
name in braces, and below, indented once more, what it means for this method beside::

    {meta_init}
    {dtype}
        The solve itself is always float64.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type[Any])

_ENTRIES = """
meta_init : MetaInit, name, path or None, default=None
    What meta-training learned from past tasks. None starts from the encoder as it is
    (random weights, for the encoders that have any).
encoder : str, nn.Module class, nn.Module or None, default=None
    A name (``"identity"``, ``"mlp"``, ``"conv4"``, ...: see `make_encoder`) or a module
    of your own. None takes the meta-init's, or ``"identity"`` without one; in
    meta-training, what ``MetaTrainer`` chooses.
freeze_encoder : bool, default=False
    Whether the encoder stays as it is: its weights and the statistics of its batch norms,
    without dropout. Meta-training then computes the features of each row once, and trains
    the rest; methods that adapt the encoder adapt their head alone. Weights that have
    ``requires_grad=False`` are never trained, whatever this is.
scale_inputs : bool or "auto", default="auto"
    Whether rows are brought to the scale of past tasks before the encoder gets them.
    ``"auto"`` does so, but not before a module of your own, which brings its own weights,
    and never with integers. With a meta-init, what it was trained with holds.
layout : {"auto", "NHWC", "NCHW"}, default="auto"
    Where the channels of images are, of rows of three axes: last or first. ``"auto"`` goes
    by the shape, and by what a module of your own takes, and is an error where both may
    be. Modules of your own are given channels first, as torch's layers take them.
n_augment : int, default=0
    Altered copies of each support row that `fit` adds; a row and its copies share its
    weight.
augment : callable or None, default=None
    ``augment(X, rng) -> X``, what alters the copies. None turns, scales, shears and
    shifts images a little (`fewshot_sklearn.tasks.RandomAffine`, half as strong as its
    default).
device : str, default="auto"
    Where to compute: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"xpu"``. ``"auto"`` is the GPU,
    where there is one and the work is worth it: see `fewshot_sklearn.estimators.device_for`.
dtype : {"float32", "float64"} or None, default=None
    Precision. None is float32 with a meta-init, or an encoder that is a module with float32
    weights, and float64 without.
random_state : int, RandomState instance or None, default=None
    Seeds the encoder's weights where there is no meta-init.
**encoder__params
    Arguments of the encoder's constructor, each written ``encoder__name=value``.
classes_ : ndarray of shape (n_classes,)
    Class labels.
loss_curve_ : ndarray of shape (n_steps,)
    Support loss before each step: cross-entropy in nats, or the mean squared error of
    the scaled targets.
meta_init_ : MetaInit
    What `fit` started from: `meta_init`, or what None stands for.
n_features_in_ : int
    Size of the second axis of X.
feature_names_in_ : ndarray of shape (n_features_in_,)
    Column names, when X had string column names.
"""

#: Entries of numpydoc's Parameters and Attributes, by what they describe.
SHARED_TEXTS = {
    entry.split(" : ")[0].split("\n")[0]: entry.rstrip()
    for entry in re.split(r"\n(?=\S)", _ENTRIES)
    if entry
}


def with_shared_texts(**own: str) -> Callable[[Class], Class]:
    """Class decorator that puts the shared texts where the class docstring names them.

    A line of the docstring with nothing but a name in braces, such as ``{device}``, gives way to
    the text of that name. What follows it stays, so further lines add to what it says.

    Parameters
    ----------
    **own : str
        Entries that the estimators of one method share, one or several, by the
        name that stands for them in the docstring.

    Returns
    -------
    callable
        The decorator. It raises a ValueError where a docstring names what there
        is no text for.
    """
    texts = SHARED_TEXTS | {name: text.strip("\n") for name, text in own.items()}

    def decorate(cls: Class) -> Class:
        def text(line: re.Match[str]) -> str:
            if line["name"] not in texts:
                raise ValueError(
                    f"The docstring of {cls.__name__} names {line[0].strip()}, for which there is "
                    f"no text. Those that there are: {', '.join(texts)}."
                )
            return textwrap.indent(texts[line["name"]], line["indent"])

        if cls.__doc__ is not None:  # as it is under python -OO
            doc = re.sub(r"(?m)^(?P<indent> *)\{(?P<name>\S+)\} *$", text, cls.__doc__)
            cls.__doc__ = _with_further_rows(cls, doc)
        return cls

    return decorate


def _with_further_rows(cls: type[Any], doc: str) -> str:
    """A class docstring that says, before its parameters, what `partial_fit` does."""
    before, parameters, after = doc.partition("\n    Parameters\n")
    if not hasattr(cls, "partial_fit") or not parameters:
        return doc
    told = textwrap.fill(cls._learner_class.further_rows_told, 84)
    return f"{before}\n{textwrap.indent(told, '    ')}\n{parameters}{after}"
