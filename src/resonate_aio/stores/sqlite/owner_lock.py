"""The locks by which one process owns a file (S44).

Operating-system locks held for life: they end with the process however that ends, so a
killed owner never locks its successor out. One is on `<path>.lock`, whose text, a pid, only
informs people. Where the system has locks of an open file description (Linux) another is on
the file itself, which deleting the first one's file, or another name of the file, does not
evade. It covers a byte far behind all that SQLite locks or writes, so neither meets the other.
SQLite's own locks are the process's, and the system drops them when the process closes the
file anywhere: what is opened here is closed after SQLite's connection, never before.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from contextlib import suppress

from ...errors import StoreOwnedError, StoreSchemaError

Identity = tuple[int, int]
"""Device and number of a file."""

_CAREFULLY = sum({getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK")})
"""No link is followed, and a pipe is not waited for."""

_LONGEST_PID = 32

if sys.platform == "win32":  # pragma: no cover  locks a byte far behind the pid's text
    import msvcrt

    def _try_lock(fd: int) -> None:
        os.lseek(fd, 1 << 30, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    def _unlock(fd: int) -> None:
        os.lseek(fd, 1 << 30, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

    def _try_lock_itself(fd: int) -> bool:
        return False  # nobody deletes a file there that is open

    def _unlock_itself(fd: int) -> None:
        pass

    def _pid_at(fd: int) -> int:
        return 0

else:
    import fcntl

    _LOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid
    _FAR_BEHIND = 1 << 62
    _SQLITE_SHARED = ((1 << 30) + 2, 510)
    """The bytes of which every connection has some locked."""

    def _try_lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)

    def _try_lock_itself(fd: int) -> bool:
        """Whether it is locked now; False: the system, or the file system, has no such locks."""
        command: int | None = getattr(fcntl, "F_OFD_SETLK", None)
        if command is None:
            return False
        try:
            fcntl.fcntl(fd, command, _far_behind(fcntl.F_WRLCK))
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.EACCES}:
                raise  # it is held
            return False
        return True

    def _unlock_itself(fd: int) -> None:
        with suppress(OSError):  # closing does it, too, where nobody has a copy
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _far_behind(fcntl.F_UNLCK))

    def _far_behind(kind: int) -> bytes:
        return struct.pack(_LOCK, kind, os.SEEK_SET, _FAR_BEHIND, 1, 0)

    def _pid_at(fd: int) -> int:
        """The process that has the database open, by SQLite's own lock; 0 if none is seen."""
        asked = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, *_SQLITE_SHARED, 0)
        try:
            found = struct.unpack(_LOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        except OSError:
            return 0
        pid: int = found[4]
        return pid if found[0] != fcntl.F_UNLCK else 0


_held: dict[int, Identity] = {}


def _close_in_child() -> None:
    """A forked child must not keep its parent's locks alive."""
    for fd in _held:
        os.close(fd)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class OwnerLock:
    """The exclusive locks on `<path>.lock` and on the file.

    Attributes:
        path: Of the lock file.
        is_on_file: Whether the file itself is locked, too.
    """

    __slots__ = ("_fd", "_file_fd", "_name", "is_on_file", "path")

    def __init__(self, path: str) -> None:
        self.path = f"{path}.lock"
        self.is_on_file = False
        self._name = path
        self._fd = -1
        self._file_fd = -1

    def check(self) -> None:
        """Refuse a file that this process owns under another name, and do not even open it.

        Raises:
            StoreOwnedError: It does.
        """
        try:
            status = os.stat(self._name)
        except OSError:
            return  # whoever opens it says what is wrong
        if (status.st_dev, status.st_ino) in _held.values():
            raise self._owned(os.getpid())

    def acquire(self) -> None:
        """Take the lock file or refuse at once.

        Raises:
            StoreOwnedError: Another process holds it; the message names its pid.
            StoreSchemaError: Something else stands in its place, which is left as it is.
            OSError: The lock file cannot be made.
        """
        fd = self._open_lock_file()
        try:
            _try_lock(fd)
        except OSError:
            pid = _pid_in(fd)
            os.close(fd)
            # The system's own error says nothing more and would only be read first.
            raise self._owned(pid) from None
        _held[fd] = _identity(fd)
        self._fd = fd
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())

    def _open_lock_file(self) -> int:
        """Open it, and nothing else: it is emptied, and a link may lead anywhere."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | _CAREFULLY, 0o600)
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.ENXIO}:
                raise
        else:
            if _is_lock_file(fd):
                return fd
            os.close(fd)
        raise StoreSchemaError(
            f"{self.path} is no lock file, and stands where that of {self._name} has to be: move "
            "it away"
        )

    def acquire_file(self) -> None:
        """Make the file if there is none, and lock it itself where that is possible.

        Raises:
            StoreOwnedError: Another process holds it; the message names its pid.
            OSError: The file cannot be opened.
        """
        fd = os.open(self._name, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        if os.fstat(fd).st_size == 0:  # made by hand: it becomes a store's
            with suppress(OSError):  # somebody else's, who lets us write it
                os.chmod(self._name, 0o600)
        try:
            self.is_on_file = _try_lock_itself(fd)
        except OSError:
            pid = _pid_at(fd)
            os.close(fd)
            raise self._owned(pid) from None
        if self.is_on_file:
            _held[fd] = _identity(fd)
            self._file_fd = fd
        else:
            os.close(fd)

    def release(self) -> None:
        """Give the locks back, after SQLite's connection is closed. Idempotent.

        The lock file stays, for removing it would race. Not by closing alone: a child that was
        just forked still has copies open.
        """
        if self._file_fd in _held:
            del _held[self._file_fd]
            _unlock_itself(self._file_fd)
            os.close(self._file_fd)
        if self._fd in _held:
            del _held[self._fd]
            os.ftruncate(self._fd, 0)
            _unlock(self._fd)
            os.close(self._fd)
        self._fd = self._file_fd = -1

    def identity(self) -> Identity | None:
        """Which file the lock file is that is held; None if none is."""
        return _held.get(self._fd)

    def _owned(self, pid: int) -> StoreOwnedError:
        owner = f"process {pid}" if pid > 0 else "another process"
        return StoreOwnedError(
            f"{self._name} is in use by {owner}: one process owns the file at a time; stop that "
            "one or use another file"
        )


def _identity(fd: int) -> Identity:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _is_lock_file(fd: int) -> bool:
    """Whether it is a file that holds a pid, or nothing."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return False
    try:
        text = os.read(fd, _LONGEST_PID + 1)
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:  # Windows refuses to read what is locked
        return True
    return len(text) <= _LONGEST_PID and (text.strip().isdigit() or not text)


def _pid_in(fd: int) -> int:
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        pid = os.read(fd, 32).decode(errors="replace").strip()
    except OSError:  # Windows refuses to read what is locked
        pid = ""
    return int(pid) if pid.isdecimal() else 0
