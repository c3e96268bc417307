"""A linear change of embeddings that starts at none, for embeddings that are good already.

P. Gao, S. Geng, R. Zhang, T. Ma, R. Fang, Y. Zhang, H. Li and Y. Qiao. CLIP-Adapter: better
vision-language models with feature adapters. IJCV 2024 (a residual change of embeddings).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..tasks import Flag, check_arguments
from ._rank import check_flat


class Residual(nn.Module):
    """Rows plus a learned linear map of them, brought to length one.

    For embeddings of a large model. The map starts at zero: training starts
    from the cosines that the model was made for, and departs from them as far
    as past tasks have something to add.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one row, (n_features,).
    unit : bool, default=True
        Whether the sum is brought to length one.

    Examples
    --------
    >>> import torch
    >>> from fewshot_sklearn.encoders import Residual
    >>> Residual((2,))(torch.tensor([[3.0, 4.0]])).tolist()
    [[0.6000..., 0.8000...]]
    """

    _constraints = {"unit": Flag()}

    def __init__(self, input_shape: tuple[int, ...], unit: bool = True):
        super().__init__()
        check_arguments(self._constraints, unit=unit)
        check_flat("residual", input_shape)
        n_features = input_shape[0]
        self.change = nn.Parameter(torch.zeros(n_features, n_features))
        self.unit = unit

    def forward(self, x: Tensor) -> Tensor:
        x = x + x @ self.change
        return F.normalize(x, dim=-1) if self.unit else x


def gives_unit_length(encoder: nn.Module) -> bool:
    """Whether all rows have features of length one."""
    return isinstance(encoder, Residual) and encoder.unit
