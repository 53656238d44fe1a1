"""Locks on what only one process may write: a data set, a conversion's target, a training run.

A lock is a hidden file .TARGET.lock beside the target, locked with flock: the system frees it when
its process ends, however it ends. Processes that were forked do not keep it. Readers need no lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ..spec import DataError, HotstartError

NO_LOCKS_HERE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""A file system that knows no locks says one of these; writing goes on without a lock there."""


class _File:
    """A locked file, and how many in this process hold it."""

    def __init__(self, path: Path, number: int, beside: bool) -> None:
        self.path = path
        self.number = number
        self.beside = beside
        self.holders = 1


class Hold:
    """A lock that is held until `release`, which may be called twice; also a context."""

    def __init__(self, target: Path) -> None:
        """Use `hold`."""
        self.target = target
        self.process = os.getpid()
        self.held = True

    def release(self) -> None:
        """Let the lock go; a forked process has nothing to let go."""
        if not self.held or self.process != os.getpid():
            return
        self.held = False
        with _guard:
            file = _held.get(self.target)
            if file is None:
                return
            file.holders -= 1
            if file.holders == 0:
                del _held[self.target]
                _unlock(file)

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


_held: dict[Path, _File] = {}
_guard = threading.RLock()


def hold(target: str | Path, error: type[HotstartError] = DataError, shared: bool = False) -> Hold:
    """Lock what is to be written.

    With `shared`, others in this process that ask for `shared` may hold it at the same time.
    Raises `error`, at once, where another process holds the lock or the lock cannot be made.
    """
    resolved = Path(target).resolve()
    with _guard:
        file = _held.get(resolved)
        if file is None:
            _held[resolved] = _lock(resolved, error)
        elif shared:
            file.holders += 1
        else:
            raise error(
                f"{target} is being written in this process already: "
                "wait until that has ended, or choose another target"
            )
        return Hold(resolved)


def _lock(target: Path, error: type[HotstartError]) -> _File:
    """Open and lock the file beside the target.

    Where nothing can be made beside it, the target's own folder is locked.
    """
    path, beside = target.with_name(f".{target.name}.lock"), True
    while True:
        try:
            number = _open(path, beside)
        except OSError as problem:
            if beside and target.is_dir():
                path, beside = target, False
                continue
            raise error(
                f"{target} cannot be written: {path} cannot be made ({problem.strerror})"
            ) from problem
        if not _try_lock(number, target, beside, error):
            return _File(path, number, beside)
        if not beside or _is_same_file(number, path):
            _write_process(number, beside)
            return _File(path, number, beside)
        os.close(number)  # the one before has let it go and deleted it in between


def _try_lock(number: int, target: Path, beside: bool, error: type[HotstartError]) -> bool:
    """Lock an open file; false where the file system knows no locks.

    Raises `error`, with the file closed, where another process holds the lock.
    """
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        if problem.errno in NO_LOCKS_HERE:
            return False
        holder = ""
        if beside:
            holder = _read_process(number)
        os.close(number)
        raise error(
            f"{target} is being written by another process{holder}: "
            "wait until it has ended, or choose another target"
        ) from problem
    return True


def _open(path: Path, beside: bool) -> int:
    if not beside:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _unlock(file: _File) -> None:
    """Delete the file while it is locked, then let it go."""
    if file.beside:
        with suppress(OSError):
            file.path.unlink()
    os.close(file.number)


def _is_same_file(number: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except OSError:
        return False


def _write_process(number: int, beside: bool) -> None:
    """Write the process's number into the file, for the other one's message.

    A full disk does not matter here.
    """
    if beside:
        with suppress(OSError):
            os.ftruncate(number, 0)
            os.pwrite(number, str(os.getpid()).encode(), 0)


def _read_process(number: int) -> str:
    try:
        text = os.pread(number, 20, 0)
    except OSError:
        return ""
    if text.isdigit():
        return f" ({text.decode()})"
    return ""


def _forget() -> None:
    """In a forked process: close the parent's locks, which stay the parent's."""
    global _guard
    _guard = threading.RLock()
    for file in _held.values():
        with suppress(OSError):
            os.close(file.number)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
