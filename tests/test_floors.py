"""The floors of docs/architecture.md: who may import whom, and that nobody else owns our names."""

import ast
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGES = {"ingest", "forecast", "policies", "actuators", "twin", "dashboard"}
ALLOWED: dict[str, set[str]] = {
    "contracts": set(),
    "sql": set(),
    "ingest": {"contracts", "sql"},
    "forecast": {"contracts"},
    "policies": {"contracts"},
    "actuators": {"contracts"},
    "twin": {"contracts"},
    "dashboard": {"contracts"},
    "control": {"contracts", "forecast", "policies", "actuators"},
    "studies": {"contracts", "control", *STAGES},
    "coldaisle": {"contracts", "sql", "control", "studies", *STAGES},
}


def imports_of(file: Path) -> set[str]:
    """Top-level names that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_no_way_back_up(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for file in files:
        ours = imports_of(file) & ALLOWED.keys() - {folder}
        assert ours <= ALLOWED[folder], f"{file.relative_to(ROOT)} imports {ours - ALLOWED[folder]}"


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_nobody_else_owns_our_names(folder: str) -> None:
    assert set(packages_distributions().get(folder, [])) <= {"coldaisle"}
