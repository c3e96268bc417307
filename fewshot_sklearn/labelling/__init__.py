"""Which rows to label next."""

from .query_strategy import select_queries, uncertainty

__all__ = [
    "select_queries",
    "uncertainty",
]
