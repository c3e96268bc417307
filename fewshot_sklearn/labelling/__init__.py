"""Which rows to label next."""

from .measures import uncertainty
from .query_strategy import select_queries

__all__ = [
    "select_queries",
    "uncertainty",
]
