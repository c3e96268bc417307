"""Which encoders give maps: features of several places of a row, such as pixels of a picture."""

from __future__ import annotations

from torch import nn

from .image import _ImageEncoder


def map_channels(encoder: nn.Module, n_features: int) -> int:
    """Channels of the map that a row's features are, laid out flat, channels first.

    Parameters
    ----------
    encoder : nn.Module
        One of this package's networks for images; or any that has an int `map_channels`.
    n_features : int
        Features of a row.

    Returns
    -------
    int
        The channels, of each of ``n_features // channels`` places; all features, of one place,
        where an encoder has no map.

    Raises
    ------
    ValueError
        When the map is there but was pooled, or what an encoder says does not fit.
    """
    if isinstance(encoder, _ImageEncoder):
        if encoder.pool is not None or encoder.n_views > 1 or encoder.has_moments:
            raise ValueError(
                "A method that compares places needs the whole map of the encoder. Set "
                "encoder__pool=None, and leave encoder__turns, encoder__mirrored and "
                "encoder__color_moments out."
            )
        return encoder.map_channels
    channels = getattr(encoder, "map_channels", None)
    if channels is None:
        return n_features
    if not (isinstance(channels, int) and channels >= 1 and n_features % channels == 0):
        raise ValueError(
            f"map_channels of {type(encoder).__name__} must be an int that divides its "
            f"{n_features} features, got {channels!r}."
        )
    return channels
