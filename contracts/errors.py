"""The few exceptions of the project. Each message is one line: what, which value, what to do."""


class ColdaisleError(Exception):
    """Base of what a user may see as one line on stderr. `status` is the exit status."""

    status = 1


class ConfigError(ColdaisleError):
    """A setting is wrong: names key, value and what is allowed."""

    status = 2


class BusError(ColdaisleError):
    """The broker is away, of another cluster, or an offset is out of range."""


class HistoryError(ColdaisleError):
    """The history cannot be opened, written or asked."""


class ActuationError(ColdaisleError):
    """A target did not take a value."""


class InputError(ColdaisleError):
    """Input of a person (a trace, a parquet file, a topology) is unusable."""

    status = 2
