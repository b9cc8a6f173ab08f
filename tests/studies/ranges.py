"""Parameters for tests."""

from studies.parameters import Parameter


def uniform(name: str, low: float = 0.0, high: float = 1.0, default: float | None = None) -> Parameter:
    middle = (low + high) / 2 if default is None else default
    return Parameter(name=name, unit="1", default=middle, low=low, high=high, distribution="uniform", mark="A", source="test")
