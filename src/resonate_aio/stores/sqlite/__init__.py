"""Promises in one SQLite file: records as rows, group commit, one writer thread."""

from .store import SqliteStore

__all__ = ["SqliteStore"]
