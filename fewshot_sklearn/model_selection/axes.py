"""Where displays draw: matplotlib, if it is installed, and its axes."""

from __future__ import annotations

from typing import Any

import numpy as np


def pyplot() -> Any:
    """``matplotlib.pyplot``.

    Raises
    ------
    ImportError
        When matplotlib is not installed; says how to.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Displays draw with matplotlib, which is not installed: "
            "pip install 'fewshot-sklearn[plot]' or pip install matplotlib."
        ) from error
    return plt


def check_axes(ax: Any, several: bool = False) -> None:
    """Refuse what cannot be drawn on.

    Parameters
    ----------
    ax : matplotlib Axes, array of them, or None
        Where to draw.
    several : bool, default=False
        Whether an array of them may be.

    Raises
    ------
    ValueError
        When it is something else.
    """
    if ax is None:
        return
    pyplot()
    from matplotlib.axes import Axes

    if several and isinstance(ax, np.ndarray | list | tuple) and len(np.ravel(ax)):
        found = all(isinstance(one, Axes) for one in np.ravel(ax))
    else:
        found = isinstance(ax, Axes)
    if not found:
        raise ValueError(f"ax must be a matplotlib Axes or None, got {ax!r}.")
