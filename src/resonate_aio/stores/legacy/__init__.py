"""Promises on a legacy Resonate server (REST), told as the current protocol."""

from .store import LegacyStore

__all__ = ["LegacyStore"]
