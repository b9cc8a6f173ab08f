import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actuators.agent import RETRY_S, Agent
from actuators.dry_run import DryRun, DryRunSettings
from actuators.node_file import NodeFile
from actuators.nvml import NvmlClocks
from actuators.signing import sign
from actuators.values import outcome
from contracts.control import Action, Bounds, ClockCap, Outcome, Revert, Value, Weights
from contracts.errors import ActuationError, ConfigError
from contracts.ports import Actuator
from tests.actuators.targets import START, FakeClock, make_action

KEY = bytes(range(32))
CAP = ClockCap(max_mhz=1200)


@dataclass
class Clocks:
    """Clocks in memory: the smallest honest target. Counts its writes, and breaks when told to."""

    kind: str = "clock_cap"
    caps: dict[str, float] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    broken: Exception | None = None

    def read(self, action: Action) -> str:
        self._check()
        return f"{self.caps[action.node]:g}" if action.node in self.caps else "none"

    def apply(self, action: Action) -> Outcome:
        before = self.read(action)
        assert isinstance(action.value, ClockCap)
        reason = ""
        if self.caps.get(action.node) != action.value.max_mhz:
            reason = "" if action.renews == "" else "found changed"
            self.caps[action.node] = action.value.max_mhz
            self.writes.append(f"{action.node}={action.value.max_mhz:g}")
        return outcome(action, "applied", before=before, after=self.read(action), reason=reason)

    def revert(self, action: Action) -> Outcome:
        before = self.read(action)
        self.caps.pop(action.node, None)
        self.writes.append(f"{action.node} reset")
        return outcome(action, "reverted", before=before, after=self.read(action))

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken


@dataclass(kw_only=True)
class Rig:
    """An agent of two nodes over clocks in memory, and its controller's pen."""

    folder: Path
    clock: FakeClock = field(default_factory=FakeClock)
    clocks: Clocks = field(default_factory=Clocks)
    node_file: NodeFile | None = None
    names: Sequence[str] = ("r0s0", "r0s1")

    def __post_init__(self) -> None:
        self.made: list[Agent] = []
        self.agent = self.make()

    def close(self) -> None:
        self.clocks.broken = None
        for agent in self.made:
            agent.stop()

    def crash(self) -> None:
        """The process is gone: its files are closed, and that is all."""
        self.agent._journal.close()
        self.made.clear()

    def make(self, actuators: dict[str, Actuator] | None = None) -> Agent:
        agent = Agent(
            names=self.names,
            actuators={"clock_cap": self.clocks} if actuators is None else actuators,
            key=KEY,
            node_file=self.node_file,
            journal=self.folder / "journal.jsonl",
            clock=self.clock,
            name="host/1",
        )
        self.made.append(agent)
        return agent

    def action(self, value: Value = CAP, target: str = "clock_cap/r0s0", **changes: Any) -> Action:
        node = target.split("/")[1]
        return sign(make_action(value, target, **{"created_wall": self.clock.at, "node": node, **changes}), KEY)

    def send(self, value: Value = CAP, target: str = "clock_cap/r0s0", **changes: Any) -> list[Outcome]:
        return self.agent.receive(self.action(value, target, **changes))

    def later(self, seconds: float) -> list[Outcome]:
        self.clock.at += timedelta(seconds=seconds)
        return self.agent.expire(self.clock.at)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(folder=tmp_path)
    yield made
    made.close()


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [found.status for found in outcomes]


def test_a_valid_action_is_applied_and_reported(rig: Rig) -> None:
    action = rig.action()
    rig.clock.at += timedelta(seconds=0.25)
    (found,) = rig.agent.receive(action)
    assert (found.status, found.action_id, found.agent, found.epoch) == ("applied", "7-1", "host/1", 7)
    assert (found.before, found.after, found.latency_s) == ("none", "1200", 0.25)
    assert found.at == rig.clock.now()
    assert rig.clocks.caps == {"r0s0": 1200}


def test_what_it_does_not_obey(rig: Rig) -> None:
    unsigned = make_action(CAP, created_wall=START)
    rig.send(target="clock_cap/r0s1", epoch=8)
    cases = {
        "signature": unsigned,
        "expired": rig.action(created_wall=START - timedelta(seconds=30)),
        "future": rig.action(created_wall=START + timedelta(seconds=60)),
        "epoch": rig.action(epoch=7),
        "kind": rig.action(Weights(endpoint="chat", shares={"r0s0": 1.0}), epoch=8),
        "bounds": rig.action(epoch=8, bounds=Bounds(low=1300, high=1980)),
        "mode": rig.action(epoch=8, mode="observe"),
    }
    for cause, action in cases.items():
        (found,) = rig.agent.receive(action)
        assert (found.status, rig.agent.refusals[cause]) == ("refused", 1), cause
        assert found.reason
    assert rig.clocks.writes == ["r0s1=1200"]
    assert rig.agent.counts["refused"] == len(cases)


def test_other_nodes_are_none_of_its_business(rig: Rig) -> None:
    assert rig.send(target="clock_cap/r9s9") == []
    assert rig.agent.refusals["node"] == 1


def test_an_older_action_that_comes_late_does_not_undo_a_newer(rig: Rig) -> None:
    late = rig.action(ClockCap(max_mhz=1900))
    rig.clock.at += timedelta(seconds=1)
    rig.send(ClockCap(max_mhz=900))
    (found,) = rig.agent.receive(late)
    assert (found.status, rig.agent.refusals["superseded"]) == ("refused", 1)
    rig.send(Revert())
    rig.agent.receive(late)
    assert rig.clocks.caps == {}


def test_a_lease_that_is_not_renewed_is_reverted(rig: Rig) -> None:
    rig.send()
    assert rig.later(29.9) == []
    (found,) = rig.later(0.1)
    assert (found.status, found.after, found.reason) == ("expired", "none", "lease was not renewed")
    assert rig.clocks.caps == {}
    assert rig.later(100) == []


def test_a_renewal_verifies_without_writing_or_news(rig: Rig) -> None:
    rig.send()
    rig.clock.at += timedelta(seconds=20)
    assert rig.send(action_id="7-2", renews="7-1") == []
    assert rig.clocks.writes == ["r0s0=1200"]
    assert rig.later(29) == [], "the lease runs from the renewal"
    rig.clocks.caps["r0s0"] = 1980.0  # somebody else reset the clocks
    (found,) = rig.send(action_id="7-3", renews="7-1")
    assert (found.status, found.reason, found.action_id) == ("applied", "found changed", "7-3")


def test_a_revert_ends_the_lease(rig: Rig) -> None:
    rig.send()
    (found,) = rig.send(Revert(), action_id="7-9")
    assert (found.status, found.action_id, found.after) == ("reverted", "7-9", "none")
    assert rig.later(100) == []
    (found,) = rig.send(Revert(), action_id="7-10")
    assert (found.status, found.reason) == ("reverted", "nothing was in force")


def test_advice_touches_nothing_and_says_so_once(rig: Rig) -> None:
    (found,) = rig.send(mode="advise")
    assert (found.status, found.before) == ("would_apply", "none")
    assert "1200" in found.after
    assert rig.send(mode="advise", action_id="7-2", renews="7-1") == []
    assert statuses(rig.send(ClockCap(max_mhz=900), mode="advise")) == ["would_apply"]
    assert statuses(rig.send(Revert(), mode="advise")) == ["would_apply"]
    assert rig.clocks.writes == []
    assert rig.later(100) == []
    assert rig.agent.leases() == {}


def test_the_nodes_file_narrows_what_is_asked(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    rig = Rig(folder=tmp_path, node_file=NodeFile(min_mhz=1000, max_mhz=1755))
    request.addfinalizer(rig.close)
    (found,) = rig.send(ClockCap(max_mhz=288))
    assert (found.status, found.reason) == ("partly", "288 MHz asked, the node's file allows 1000 MHz")
    assert rig.clocks.caps == {"r0s0": 1000}
    rig.send(ClockCap(max_mhz=1980))
    assert rig.clocks.caps == {"r0s0": 1755}


def test_an_actuator_of_real_devices_needs_a_node_file(rig: Rig) -> None:
    rig.agent.stop()
    with pytest.raises(ConfigError, match=r"agent\.node_file is missing"):
        rig.make({"clock_cap": NvmlClocks.__new__(NvmlClocks)})


def test_a_failure_is_reported_and_the_next_renewal_tries_again(rig: Rig) -> None:
    rig.clocks.broken = ActuationError("the target is away")
    (found,) = rig.send()
    assert (found.status, found.reason) == ("failed", "the target is away")
    assert rig.send(action_id="7-2", renews="7-1") == [], "the same failure is no news"
    rig.clocks.broken = None
    assert statuses(rig.send(action_id="7-3", renews="7-1")) == ["applied"]


def test_a_bug_in_an_actuator_costs_one_target(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.send(target="clock_cap/r0s1")
    rig.clocks.broken = ZeroDivisionError("bug")
    (found,) = rig.send()
    assert (found.status, found.reason) == ("failed", "actuator broke: ZeroDivisionError: bug")
    assert "Traceback" in caplog.text
    rig.clocks.broken = None
    assert sorted(statuses(rig.later(31))) == ["expired", "expired"]


def test_a_revert_that_fails_is_tried_until_it_succeeds(rig: Rig) -> None:
    rig.send()
    rig.clocks.broken = ActuationError("the target is away")
    (found,) = rig.later(30)
    assert found.status == "failed"
    assert "tried again" in found.reason
    assert rig.later(RETRY_S) == [], "once is enough"
    rig.clocks.broken = None
    assert statuses(rig.later(RETRY_S)) == ["expired"]
    assert rig.clocks.caps == {}


def test_a_refused_change_leaves_the_old_value_and_its_lease(rig: Rig) -> None:
    rig.send()
    rig.send(ClockCap(max_mhz=700), bounds=Bounds(low=800, high=1980))
    assert rig.clocks.caps == {"r0s0": 1200}
    assert statuses(rig.later(31)) == ["expired"]


def test_stopping_reverts_everything(rig: Rig) -> None:
    rig.send()
    rig.send(target="clock_cap/r0s1")
    assert statuses(rig.agent.stop()) == ["reverted", "reverted"]
    assert rig.clocks.caps == {}
    assert rig.make().start() == []


def test_a_crash_leaves_nothing_in_force(rig: Rig) -> None:
    rig.send(epoch=9)
    rig.send(target="clock_cap/r0s1", epoch=9)
    rig.crash()
    again = rig.make()
    assert {(o.target, o.status, o.reason) for o in again.start()} == {
        ("clock_cap/r0s0", "reverted", "left in force by a crash"),
        ("clock_cap/r0s1", "reverted", "left in force by a crash"),
    }
    assert rig.clocks.caps == {}
    assert again.leases() == {}
    assert statuses(again.receive(rig.action(epoch=8))) == ["refused"], "the epoch outlives the process"


def test_only_one_agent_owns_a_journal(rig: Rig) -> None:
    with pytest.raises(ConfigError, match="another agent owns it"):
        rig.make()


def test_a_line_torn_by_a_crash_is_passed_over_and_any_other_is_not(rig: Rig) -> None:
    rig.send()
    rig.crash()
    journal = rig.folder / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"type":"hold","act')
    again = rig.make()
    assert len(again.start()) == 1
    again.stop()
    journal.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(ConfigError, match=r"line 1: .* then delete it"):
        rig.make()


def test_the_journal_stays_small(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actuators.journal.COMPACT_LINES", 50)
    for step in range(200):
        rig.send(ClockCap(max_mhz=1000 + step))
    assert len((rig.folder / "journal.jsonl").read_bytes().splitlines()) <= 60
    rig.crash()
    (found,) = rig.make().start()
    assert found.target == "clock_cap/r0s0"


def test_hundreds_of_targets(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    names = [f"r0s{i}" for i in range(300)]
    rig = Rig(folder=tmp_path, names=names)
    request.addfinalizer(rig.close)
    assert len(rig.agent.receive(*(rig.action(target=f"clock_cap/{name}") for name in names))) == 300
    assert sum(len(rig.send(target=f"clock_cap/{name}", action_id="7-2", renews="7-1")) for name in names) == 0
    assert len(rig.later(31)) == 300


def test_what_comes_together_is_obeyed_in_order_with_few_waits_for_the_disk(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    monkeypatch.setattr("os.fsync", waits.append)
    actions = [
        rig.action(target="clock_cap/r0s0"),
        rig.action(target="clock_cap/r0s1"),
        rig.action(Revert(), target="clock_cap/r0s0"),
        rig.action(ClockCap(max_mhz=900), target="clock_cap/r0s0"),
    ]
    assert statuses(rig.agent.receive(*actions)) == ["applied", "applied", "reverted", "applied"]
    assert len(waits) == 2
    assert rig.clocks.caps == {"r0s0": 900, "r0s1": 1200}
    rig.crash()
    assert len(rig.make().start()) == 2


def test_what_cannot_be_written_down_is_not_touched(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(target="clock_cap/r0s1")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        (found,) = rig.send()
        assert found.status == "failed"
        assert "No space left on device; not applied" in found.reason
        assert rig.clocks.caps == {"r0s1": 1200}
        assert statuses(rig.send(ClockCap(max_mhz=900), target="clock_cap/r0s1")) == ["applied"], "it is in the journal already"
    assert statuses(rig.send()) == ["applied"]


def test_dry_run_reports_what_it_would_do(rig: Rig) -> None:
    rig.agent.stop()
    rig.agent = rig.make({"clock_cap": DryRun(DryRunSettings())})
    assert statuses(rig.send()) == ["would_apply"]
    assert statuses(rig.later(31)) == ["expired"]


def test_an_outcome_is_a_record(rig: Rig) -> None:
    (found,) = rig.send()
    assert msgspec.json.decode(msgspec.json.encode(found), type=Outcome) == found


def test_an_agent_needs_no_columns() -> None:
    code = (
        "import sys, actuators.agent, actuators.dry_run, actuators.nvml, actuators.haproxy, actuators.alertmanager\n"
        "import ingest.exporters.nvml\n"
        "print(sorted({'polars', 'pyarrow', 'duckdb', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_node_file_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    with pytest.raises(ConfigError, match="No such file"):
        NodeFile.read(file)
    for text, match in (
        ('gpus = "all"', r"Expected `array`.*gpus"),
        ("min_mhz = 1500\nmax_mhz = 1000", "swapped"),
        ("declared_lock_mhz = [1500, 1000]", "swapped"),
        ("cap = 5", "unknown field `cap`; keys are gpus, min_mhz"),
        ("= 5", "node file"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=match):
            NodeFile.read(file)
    file.write_text('gpus = ["GPU-1", "H100"]\nmin_mhz = 800')
    found = NodeFile.read(file)
    assert found.opted_in("GPU-1", "A100")
    assert found.opted_in("GPU-2", "H100")
    assert not found.opted_in("GPU-2", "A100")
