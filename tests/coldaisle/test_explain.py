from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from coldaisle.explain import convert, read_toml
from contracts.errors import ConfigError


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mode: Literal["observe", "enforce"] = "observe"
    period_s: Annotated[float, msgspec.Meta(gt=0)] = 1.0


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    modes: dict[str, Literal["observe", "enforce"]] = {}
    perhaps: Inner | None = None


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"inner": {"mode": "on"}}, "here: inner.mode = 'on': Invalid enum value 'on'; allowed are 'enforce', 'observe'"),
        ({"inner": {"period_s": -1}}, "here: inner.period_s = -1: Expected `float` > 0.0; allowed is float > 0"),
        ({"inner": {"x": 1}}, "here: inner: Object contains unknown field `x`; allowed are the keys mode, period_s"),
        (
            {"many": [{}, {"period_s": "fast"}]},
            "here: many[1].period_s = 'fast': Expected `float`, got `str`; allowed is float > 0",
        ),
        ({"perhaps": {"period_s": 0}}, "here: perhaps.period_s = 0: Expected `float` > 0.0; allowed is float > 0"),
        (
            {"modes": {"caps": "on"}},
            "here: modes[...] = {'caps': 'on'}: Invalid enum value 'on'; allowed are 'enforce', 'observe'",
        ),
        ({"y": 1}, "here: (top): Object contains unknown field `y`; allowed are the keys inner, many, modes, perhaps"),
    ],
)
def test_one_line_names_key_value_and_what_is_allowed(table: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        convert(table, Outer, "here")
    assert str(error.value) == line


def test_a_missing_file_and_broken_toml_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: No such file or directory; give one with --config"):
        read_toml(tmp_path / "none.toml", Outer)
    broken = tmp_path / "broken.toml"
    broken.write_text("a = = 1")
    with pytest.raises(ConfigError, match=r"broken.toml: not TOML"):
        read_toml(broken, Outer)
