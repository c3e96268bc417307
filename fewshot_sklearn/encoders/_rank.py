"""Encoders of single numbers: they refuse images and series, whose numbers have an order."""

from __future__ import annotations


def check_flat(encoder: str, input_shape: tuple[int, ...]) -> None:
    """Refuse rows that are no list of numbers.

    Parameters
    ----------
    encoder : str
        Name of the encoder.
    input_shape : tuple of int
        Shape of one row.

    Raises
    ------
    ValueError
        When it has several axes, or none.
    """
    if len(input_shape) != 1:
        raise ValueError(
            f"encoder={encoder!r} takes rows of numbers, X of shape (n_rows, n_features), got rows "
            f"of shape {tuple(input_shape)}. Take encoder='series' for series (n_times, "
            "n_channels), 'conv4' for images, or pass X.reshape(len(X), -1) to have each number by "
            "itself."
        )
