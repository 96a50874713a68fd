"""The tree of errors.

::

    TlmSearchError
    ├── UserError                 the user's input is wrong; exit code 2
    │   ├── SpaceError            a space file, with file, line and key
    │   ├── DataError             a corpus, a task or a tokenizer
    │   ├── StoreError            a folder of the store cannot be read or written
    │   ├── StudyError            a study folder, its storage or its lock
    │   ├── ExportError           an exported committee, or the folder for one
    │   └── ResourceError         more CPUs, GPUs or memory than the machines have
    ├── TrainingError             one member could not be trained; its trial fails with this text
    │   ├── DivergedError         the loss is not a number, or does not fall
    │   └── OutOfMemoryError      the device has too little memory
    ├── ClusterError              Ray did not start, or died under a study; the same command continues it
    ├── NoTrialSucceededError     the study ended without one finished trial; exit code 3
    └── InterruptedStudyError     Ctrl-C; exit code 130

The command line prints the message, then the hint, and ends with ``exit_code``. It treats an OSError like a UserError.
All other exceptions are mistakes in this program and show a traceback.
"""

from __future__ import annotations

from pathlib import Path

from tlm_search.passwords import masked


class TlmSearchError(Exception):
    """An error that the user sees as one message.

    ``hint`` says what to do next and is printed below the message. Passwords in URLs are removed from both.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(masked(message))
        self.message = masked(message)
        self.hint = None if hint is None else masked(hint)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"


class UserError(TlmSearchError):
    """The user's input is wrong."""

    exit_code = 2


class SpaceError(UserError):
    """A space file is wrong; the message has the file, the line and the key."""

    def __init__(
        self,
        message: str,
        *,
        file: Path | str | None = None,
        line: int | None = None,
        key: str | None = None,
        hint: str | None = None,
    ) -> None:
        place = "" if file is None else f"{file}:{line}: " if line is not None else f"{file}: "
        super().__init__(f"{place}{f'{key}: ' if key else ''}{message}", hint=hint)
        self.file = file
        self.line = line
        self.key = key


class DataError(UserError):
    """A corpus, a task or a tokenizer cannot be used."""


class StoreError(UserError):
    """The store cannot be read or written."""


class StudyError(UserError):
    """A study's folder, storage or lock cannot be used."""


class ExportError(UserError):
    """A committee cannot be exported, or an exported one cannot be used."""


class ResourceError(UserError):
    """More resources were requested than the machine or the cluster has."""


class TrainingError(TlmSearchError):
    """One member could not be trained."""


class DivergedError(TrainingError):
    """The loss is not a number, or does not fall."""


class OutOfMemoryError(TrainingError):
    """The device has too little memory for this member."""


class ClusterError(TlmSearchError):
    """The Ray cluster did not start, or died during a study; nothing is lost.

    ``change`` says what to change before the next try, if that can help.
    """

    def __init__(
        self,
        message: str,
        *,
        change: str | None = None,
        again: str = "run the same command again: it continues the study",
    ) -> None:
        super().__init__(message, hint=again if change is None else f"{change}; then {again}")
        self.change = change


class NoTrialSucceededError(TlmSearchError):
    """The study ended without a successful trial."""

    exit_code = 3


class InterruptedStudyError(TlmSearchError):
    """The user stopped the study; the hint has the command that continues it."""

    exit_code = 130
