"""Uncertain parameters: their ranges by source, and Latin-hypercube draws from them."""

import math
import tomllib
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from contracts.errors import ConfigError

FILE = Path(__file__).parent / "parameters.toml"

Floats = NDArray[np.float64]


class Parameter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One uncertain number in `unit`, somewhere in [low, high].

    `triangular` has its mode at the default; `normal` its mean, and is cut at low and high
    (renormalised, no heaps at the ends).
    """

    name: str
    unit: str
    default: float
    low: float
    high: float
    distribution: Literal["uniform", "log_uniform", "triangular", "normal"]
    sd: float | None = None
    """of a normal one, before it is cut"""
    mark: Literal["F", "S", "P", "A", "MEM", "INF"]
    source: str

    def __post_init__(self) -> None:
        """Raise ValueError where the numbers do not fit each other."""
        if not all(map(math.isfinite, (self.low, self.default, self.high))):
            raise ValueError(f"low, default, high = {self.low}, {self.default}, {self.high}: must be finite")
        if not self.low <= self.default <= self.high or self.low == self.high:
            raise ValueError(f"default = {self.default}: must lie in [low, high] = [{self.low}, {self.high}], low < high")
        if self.distribution == "log_uniform" and self.low <= 0:
            raise ValueError(f"low = {self.low}: a log_uniform one must be above 0")
        if (self.distribution == "normal") != (self.sd is not None) or (self.sd is not None and not 0 < self.sd < math.inf):
            raise ValueError(f"sd = {self.sd}: a normal one needs it above 0, no other has it")

    def at(self, quantile: Floats) -> Floats:
        """Return the values at quantiles in [0, 1]; 0 is low, 1 is high."""
        low, high = self.low, self.high
        if self.distribution == "normal" and self.sd is not None:
            left, right = (low - self.default) / self.sd, (high - self.default) / self.sd
            share = ndtr(right) - ndtr(left)
            below, above = ndtr(left) + quantile * share, ndtr(-right) + (1.0 - quantile) * share
            # From the nearer end: close to 1 a probability has no digits left.
            value = self.default + self.sd * np.where(below < 0.5, ndtri(below), -ndtri(above))
        elif self.distribution == "triangular":
            mode = (self.default - low) / (high - low)
            rising = low + (high - low) * np.sqrt(quantile * mode)
            falling = high - (high - low) * np.sqrt((1.0 - quantile) * (1.0 - mode))
            value = np.where(quantile < mode, rising, falling)
        else:
            value = self.between(low, high, quantile)
        clipped: Floats = np.clip(value, low, high)  # rounding must not leave the range
        return clipped

    def between(self, a: float, b: float, share: Floats) -> Floats:
        """Return the values `share` of the way from a to b: along the logarithm if the parameter is log_uniform."""
        if self.distribution == "log_uniform":
            value: Floats = np.exp(np.log(a) + share * (np.log(b) - np.log(a)))
            return value
        return a + share * (b - a)


def load(path: Path = FILE) -> tuple[Parameter, ...]:
    """Return the parameters of a TOML file, in its order. ConfigError names file, key and what is allowed."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no parameters {path}: name a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: not TOML: {error}") from None
    found = []
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path.name}: {name} = {table!r}: must be a table [{name}]")
        try:
            found.append(msgspec.convert(table | {"name": name}, Parameter))
        except msgspec.ValidationError as error:
            raise ConfigError(f"{path.name}: [{name}]: {error}") from None
    return tuple(found)


def select(parameters: tuple[Parameter, ...], names: tuple[str, ...]) -> tuple[Parameter, ...]:
    """Return those of these names, in the order of `names`. ConfigError where one is missing."""
    by_name = {p.name: p for p in parameters}
    missing = sorted(set(names) - by_name.keys())
    if missing:
        raise ConfigError(f"unknown parameters {', '.join(missing)}: known are {', '.join(by_name)}")
    return tuple(by_name[name] for name in names)


def defaults(parameters: tuple[Parameter, ...]) -> dict[str, float]:
    """Return name -> default."""
    return {p.name: p.default for p in parameters}


def points(parameters: tuple[Parameter, ...], quantiles: Floats) -> Floats:
    """[N, K] values at quantiles [N, K], a column per parameter."""
    return np.column_stack([p.at(quantiles[:, k]) for k, p in enumerate(parameters)])


def draws(parameters: tuple[Parameter, ...], count: int, seed: int) -> pl.DataFrame:
    """Return `count` Latin-hypercube draws, a column per parameter (McKay, Beckman and Conover 1979).

    Each parameter has one draw in each of `count` slices of equal probability; the same seed gives the same frame.
    """
    sampler = qmc.LatinHypercube(d=len(parameters), rng=np.random.Generator(np.random.PCG64([seed, 11])))
    values = points(parameters, sampler.random(count))
    return pl.DataFrame({p.name: values[:, k] for k, p in enumerate(parameters)})
