"""Out to where it is served: a fitted estimator as one file, without this package."""

from .exporting import export

__all__ = ["export"]
