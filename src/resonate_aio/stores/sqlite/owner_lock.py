"""The lock by which one process owns a file (S44).

An operating-system lock held for life: it ends with the process however that ends, so a
killed owner never locks its successor out. The pid in the lock file only informs people.
"""

from __future__ import annotations

import os
import sys

from ...errors import StoreOwnedError

if sys.platform == "win32":  # pragma: no cover  locks a byte far behind the pid's text
    import msvcrt

    def _try_lock(fd: int) -> None:
        os.lseek(fd, 1 << 30, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    def _unlock(fd: int) -> None:
        os.lseek(fd, 1 << 30, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


_held: set[int] = set()


def _close_in_child() -> None:
    """A forked child must not keep its parent's locks alive."""
    for fd in _held:
        os.close(fd)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class OwnerLock:
    """The exclusive lock on `<path>.lock`."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: str) -> None:
        self.path = f"{path}.lock"
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock or refuse at once.

        Raises:
            StoreOwnedError: Another process holds it; the message names its pid.
            OSError: The lock file cannot be made.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _try_lock(fd)
        except OSError:
            owner = _owner(fd)
            os.close(fd)
            # The system's own error says nothing more and would only be read first.
            raise StoreOwnedError(
                f"{self.path.removesuffix('.lock')} is in use by {owner}: one process owns the "
                "file at a time; stop that one or use another file"
            ) from None
        _held.add(fd)
        self._fd = fd
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Give the lock back. Idempotent; the file stays, for removing it would race."""
        if self._fd in _held:
            _held.discard(self._fd)
            os.ftruncate(self._fd, 0)
            # Not by closing alone: a child that was just forked still has a copy open.
            _unlock(self._fd)
            os.close(self._fd)
        self._fd = -1


def _owner(fd: int) -> str:
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        pid = os.read(fd, 32).decode(errors="replace").strip()
    except OSError:  # Windows refuses to read what is locked
        pid = ""
    return f"process {pid}" if pid.isdecimal() else "another process"
