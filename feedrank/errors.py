"""Errors that a person meets: each message says what is wrong, where, and what to do."""


class FeedrankError(Exception):
    """Base of every expected failure; the command line prints its message as one sentence and exits non-zero."""


class ConfigError(FeedrankError):
    """A configuration file or an environment override is wrong."""


class DataError(FeedrankError):
    """Input data is missing, unreadable or not of the promised form."""


class ValidationFailedError(DataError):
    """A batch broke a table-level rule or has more bad rows than allowed."""


class StorageError(FeedrankError):
    """An output can't be written, or another run is writing it."""


class BundleError(FeedrankError):
    """A model bundle is missing, truncated, tampered with, or of another feature schema."""


class OtherFeaturesError(BundleError):
    """A model bundle or snapshot is of features that this code does not compute: of another schema or rule."""


class RegistryError(FeedrankError):
    """The model registry can't be reached, or has no such version or alias."""


class PredictionError(FeedrankError):
    """The predictor refused the request, or could not be reached."""

    def __init__(self, message: str, *, status: int | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; None when nothing was sent, or no answer came."""
        self.field = field
        """The wrong field of a request that the client or the predictor (422) refused."""
