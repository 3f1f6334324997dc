"""Everything amcc raises on purpose.

    AmccError                     exit code
    ├── UsageError                2   options, budget text, names that do not exist
    ├── InputError                2   what was given cannot be used
    │   ├── ModelError            2   the model file or module
    │   │   └── RunError          2   the model does not run on some inputs
    │   ├── DataError             2   calibration or evaluation data, metric functions
    │   └── PlanError             2   a plan that is broken or belongs to another model
    ├── OutputError               2   the output folder cannot be written
    ├── WorkerError               2   workers cannot be started, or die again and again
    ├── BudgetError               3   the budget cannot be reached
    ├── VerificationError         4   a rewrite broke a law: a fault of amcc, never of the user
    └── Interrupted               130 stopped by the user, journal kept

Every error says what is wrong, where, and what to do next; `str(error)` is the whole message.
"""

from __future__ import annotations


class AmccError(Exception):
    """Base of all errors that amcc raises on purpose.

    Args:
        message: what is wrong, in one sentence.
        where: the place: a file, node, operator or shape.
        hint: what the user can do about it.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.message = message
        self.where = where
        self.hint = hint
        super().__init__(message)

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} ({self.hint})" if self.hint else text


class UsageError(AmccError):
    """An option, a budget or a name that makes no sense."""

    exit_code = 2


class InputError(AmccError):
    """Something that was given cannot be used."""

    exit_code = 2


class ModelError(InputError):
    """The model cannot be read, is broken, or uses what amcc cannot carry."""


class RunError(ModelError):
    """The model is accepted and fails on the inputs that it is given."""


class DataError(InputError):
    """Calibration or evaluation data, or a metric, that does not fit the model."""


class PlanError(InputError):
    """A plan that is broken, or that belongs to another model."""


class OutputError(AmccError):
    """The result cannot be written."""

    exit_code = 2


class WorkerError(AmccError):
    """Workers cannot be started, or die again and again."""

    exit_code = 2


class BudgetError(AmccError):
    """The budget cannot be reached; says the smallest value that can."""

    exit_code = 3


class VerificationError(AmccError):
    """A graph broke a law that a pass has to keep."""

    exit_code = 4


class Interrupted(AmccError):
    """The user stopped the search; its journal is kept."""

    exit_code = 130
