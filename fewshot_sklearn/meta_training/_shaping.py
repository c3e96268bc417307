"""What of losses or returns counts in evolution strategies: their order."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def centred_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from -0.5 to 0.5; equal values have the same (Salimans et al., section 2.1)."""
    return (rankdata(values).reshape(values.shape) - 1) / (values.size - 1) - 0.5
