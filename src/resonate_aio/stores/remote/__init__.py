"""Promises on a server of the current protocol."""

from .store import RemoteStore

__all__ = ["RemoteStore"]
