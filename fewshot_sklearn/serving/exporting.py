"""A fitted estimator to one file that is served without this package."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..estimators import ROW_DTYPES
from ..meta_init import whole_file
from ..tasks import FilePath
from ._graphs import Answers, drawn, final_of, has_std, kind_of, rows_to_try
from ._onnx import check_installed, onnx_answers, onnx_file
from ._program import drawing, program_of, torch_answers, torch_file

#: How far answers of the file may be off: of probabilities, and of targets in their unit.
TOLERANCE = 1e-5
#: For each kind of file, what writes a program to its bytes, and what answers from them.
FORMATS = {".onnx": (onnx_file, onnx_answers), ".pt2": (torch_file, torch_answers)}
#: Kinds of labels that JSON has.
PLAIN = (str, int, float, bool)


def export(estimator: Any, path: str | os.PathLike[str], check: Any = None) -> None:
    """Write a fitted estimator to one file that answers where this package is not.

    The file holds all that `predict` computes with numbers: the scaling of rows, the
    encoder, what `fit` learned of the task, and scikit-learn's scalers and imputer where
    they come before in a pipeline. It takes any number of rows. Before it is there, its
    answers were compared with the estimator's.

    Parameters
    ----------
    estimator : estimator
        A fitted classifier or regressor of this package that adapts to one task; one that
        `TrustLearner` calibrated; or a pipeline that ends in one, whose other steps are
        StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler or SimpleImputer.
    path : path-like
        The file. ``.onnx`` is for onnxruntime and its like, and takes the extra
        ``fewshot-sklearn[export]`` to write; ``.pt2`` is for torch, whose
        ``torch.export.load`` reads it.
    check : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape), default=None
        Rows to compare answers on; their type is the one that the file takes. None takes the
        support rows; where the estimator holds none, rows drawn about the mean of past ones.

    Raises
    ------
    ValueError
        When `path` ends otherwise, or the file's answers are not the estimator's: by more
        than 1e-5 of a probability, or of the unit of a target. There is no file then.
    NotImplementedError
        When the estimator cannot be exported, or not to this kind of file; says what to do.
    ImportError
        When the extra is not installed.
    NotFittedError
        Before `fit`.

    See Also
    --------
    MetaInit.save : A file of what meta-training learned, to fit from.

    Notes
    -----
    The input is called ``X``, in the type of the rows that `fit` saw: float64, float32 or
    uint8. Outputs of a classifier are ``probabilities`` (n_rows, n_classes) and ``label``
    (n_rows,), the place of the predicted class among the classes; of a regressor ``mean``
    and, where it predicts one, ``std``, in the shape of `predict`. What the file says of
    itself is text in JSON: ``classes``, ``feature_names`` (or null), ``estimator`` and
    ``fewshot_sklearn``, the version. An .onnx file has it as its metadata, a .pt2 file as
    its extra files.

    A file checks nothing: rows that `predict` would refuse have answers, too, of no worth.

    Examples
    --------
    >>> import os, tempfile
    >>> import torch
    >>> from fewshot_sklearn import ProtoNetClassifier, export
    >>> clf = ProtoNetClassifier().fit([[0.0, 0.0], [0.0, 1.0], [4.0, 4.0]], ["a", "a", "b"])
    >>> path = os.path.join(tempfile.mkdtemp(), "letters.pt2")
    >>> export(clf, path)
    >>> told = {"classes": ""}
    >>> served = torch.export.load(path, extra_files=told).module()
    >>> answers = served(torch.tensor([[0.0, 2.0], [3.0, 3.0]], dtype=torch.float64))
    >>> answers["label"], told["classes"]
    (tensor([0, 1]), '["a", "b"]')
    """
    FilePath().check("path", path)
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(
            f"path must end in .onnx (for onnxruntime) or .pt2 (for torch), got {str(path)!r}."
        )
    if path.suffix == ".onnx":
        check_installed()
    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        raise ValueError(f"estimator must be a fitted estimator, got {estimator!r}.")
    content = _content(path, estimator, check)
    with whole_file(path) as file:
        file.write(content)


def _content(path: Path, estimator: Any, check: Any) -> bytes:
    """What is to be written, once its answers are known to be right."""
    found = drawn(estimator)
    told = _told(estimator)
    write, read = FORMATS[path.suffix]
    rows = _as_rows(rows_to_try(estimator) if check is None else check)
    wanted = _answers(estimator, _named(estimator, rows) if check is None else check)
    classifies = "probabilities" in wanted
    flat = not classifies and wanted["mean"].ndim == 1
    with drawing():
        program = program_of(Answers(found.module, classifies, flat), rows)
        content = write(program, told)
        answer = read(content)
    for n in {1, len(rows)}:  # a single row too, which a program may take for a constant
        answers = answer(rows[:n])
        _compare(path.name, {key: right[:n] for key, right in wanted.items()}, answers, found.unit)
    return content


def _told(estimator: Any) -> dict[str, str]:
    """What a file says of itself, each a text in JSON."""
    from .. import __version__

    names = getattr(estimator, "feature_names_in_", None)
    told = {
        "estimator": type(final_of(estimator)).__name__,
        "feature_names": None if names is None else list(names),
        "fewshot_sklearn": __version__,
    }
    if kind_of(estimator) == "classifier":
        known = np.asarray(estimator.classes_)
        classes = known.tolist()
        # as plain values times are mere numbers
        if known.dtype.kind in "mM" or not all(isinstance(label, PLAIN) for label in classes):
            raise NotImplementedError(
                f"The classes {classes} cannot be told in a file: labels must be strings, "
                "numbers or bools. Fit to such."
            )
        told["classes"] = classes
    return {name: json.dumps(value) for name, value in told.items()}


def _as_rows(X: Any) -> np.ndarray:
    """Rows of numbers, of a type that estimators take as it is."""
    rows = np.asarray(X)
    rows = rows if rows.dtype in ROW_DTYPES else rows.astype(np.float64)
    if rows.ndim < 2 or not len(rows):
        raise ValueError(f"check must hold at least one row, got an array of shape {rows.shape}.")
    return rows


def _named(estimator: Any, rows: np.ndarray) -> Any:
    """Rows under the names that the estimator knows."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return rows
    import pandas as pd  # type: ignore[import-untyped]

    return pd.DataFrame(rows, columns=names)


def _answers(estimator: Any, rows: Any) -> dict[str, np.ndarray]:
    """What the estimator answers."""
    if kind_of(estimator) == "classifier":
        return {"probabilities": estimator.predict_proba(rows)}
    if has_std(estimator):
        return dict(zip(("mean", "std"), estimator.predict(rows, return_std=True), strict=True))
    return {"mean": estimator.predict(rows)}


def _compare(
    name: str, wanted: dict[str, np.ndarray], answers: dict[str, np.ndarray], unit: np.ndarray
) -> None:
    """Refuse a file whose answers are others than the estimator's."""
    wanted, answers = dict(wanted), dict(answers)
    if "label" in answers:
        # which of two classes that are equally probable is predicted, rounding decides
        proba = wanted["probabilities"]
        answers["label"] = np.take_along_axis(proba, answers["label"][:, None], 1)
        wanted["label"] = proba.max(1, keepdims=True)
    else:
        unit = np.maximum(unit, np.ptp(wanted["mean"], 0))
    for key, right in wanted.items():
        got = answers[key]
        off = np.abs(got - right) / unit if got.shape == right.shape else np.array(np.inf)
        if not (off <= TOLERANCE).all():  # nor where it is not a number
            raise ValueError(
                f"{name} was not written: its {key} would be off by up to {off.max():.1g}, and "
                f"more than {TOLERANCE:g} is too much. Fit in double precision (dtype='float64'), "
                "or check on rows more like those that the estimator was trained on."
            )
