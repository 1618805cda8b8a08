"""What a run may decode again: one budget for all processes, of the planned audio."""

from __future__ import annotations

from pipelines.supervision.repair_budget import RepairLedger, summed
from pipelines.supervision.supervisor import Supervisor


def test_all_processes_share_one_budget() -> None:
    supervisor = Supervisor()
    supervisor.open_repair(0.05, 1000.0, 10.0)
    assert [supervisor.grant_repair(25.0), supervisor.grant_repair(25.0), supervisor.grant_repair(5.0)] == [
        25.0,
        15.0,
        0.0,
    ]
    supervisor.return_repair(4.0)
    assert supervisor.grant_repair(5.0) == 4.0


def test_nothing_is_granted_before_the_pass_says_how_much() -> None:
    assert Supervisor().grant_repair(1.0) == 0.0


def test_where_no_header_has_a_duration_the_finished_audio_counts() -> None:
    supervisor = Supervisor()
    supervisor.open_repair(0.1, 0.0, 0.0)
    assert supervisor.grant_repair(5.0) == 0.0
    supervisor.add([("recording", 1, 40.0, False)])
    assert supervisor.grant_repair(5.0) == 4.0


def test_costs_are_summed_by_step() -> None:
    ledger = RepairLedger()
    ledger.record_repair({"recut": {"segments": 2, "seconds": 9.0}})
    ledger.record_repair({"recut": {"segments": 1, "seconds": 1.0}, "penalty": {"segments": 1}})
    assert ledger.repairs() == {"recut": {"segments": 3, "seconds": 10.0}, "penalty": {"segments": 1}}
    assert summed({}, {}) == {}
