"""What becomes of an item: its result came, its worker raised, died or does not answer.

Place failures give the item to another worker; function failures end the call at once. Nothing here changes
what an item computes, only where and how often.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ray import ObjectRef

from cluster.actor import Reply
from cluster.call import Call, Sent
from cluster.errors import ContractViolation, ShardFailed, ShardPoisoned, WorkersLost
from cluster.failure import Failure, type_name
from cluster.faults import describe_fault, is_place_fault, is_worker_fault
from cluster.schedule import Assignment, Setback
from cluster.supervisor import Supervisor


def accept(call: Call, supervisor: Supervisor, sent: Sent, reply: Reply) -> None:
    """A worker answered, with a result or a `Failure`.

    Raises:
        ShardFailed, ShardPoisoned, ResultsDiffer, WorkersLost: see `cluster.errors`.
    """
    assignment = sent.assignment
    worker = supervisor.get(assignment.worker)
    if worker is not None:
        supervisor.answered(worker)
    stamp = (reply.version, reply.index, reply.attempt)
    if stamp != (call.version, assignment.index, assignment.attempt):
        raise ContractViolation(
            f"worker {assignment.worker} answered for version, item, attempt {stamp}; expected "
            f"{(call.version, assignment.index, assignment.attempt)}"
        )
    failure = reply.result
    if not isinstance(failure, Failure):
        call.finish(sent, reply, worker)
    elif failure.place:
        reason = f"{failure.error_type}: {failure.message}"
        _settle(call, supervisor, call.schedule.fail(assignment), reason)
    else:
        raise _shard_failed(call, assignment, failure) from failure.original()


def suffer(call: Call, supervisor: Supervisor, ref: ObjectRef[Any], error: Exception) -> None:
    """Ray raised instead of answering.

    Raises:
        ShardFailed, ShardPoisoned, WorkersLost: see `cluster.errors`.
    """
    if ref not in call.refs:  # its worker was lost a moment ago, with all that it had
        return
    assignment = call.refs[ref].assignment
    if not is_place_fault(error):  # for instance a result that does not pickle
        failure = Failure(
            place=False,
            error_type=type_name(type(getattr(error, "cause", None) or error)),
            message=str(error).strip().rpartition("\n")[2],
            remote_traceback=str(error),
        )
        raise _shard_failed(call, assignment, failure) from error
    if is_worker_fault(error):
        charge = call.is_to_blame(assignment.worker)
        _lose(call, supervisor, assignment.worker, describe_fault(error), charge=charge)
    else:
        call.take(ref)
        _settle(call, supervisor, call.schedule.fail(assignment), describe_fault(error))


def hurry(call: Call, supervisor: Supervisor) -> None:
    """Look after late items: at first another worker tries the item too; then the silent worker is replaced.

    A worker's misses are forgotten when it answers, and remembered from call to call, so that one that hangs is
    found even when the copies are faster than its second miss.

    Raises:
        ShardPoisoned, WorkersLost: see `cluster.errors`.
    """
    for assignment, waited in call.late():
        worker = supervisor.get(assignment.worker)
        if worker is None:
            continue
        worker.misses += 1
        limit = call.limit(assignment)
        if worker.misses > 1:
            reason = f"no answer for {waited:.1f} s, twice the limit of {limit:.1f} s"
            _lose(call, supervisor, worker.id, reason, charge=True, strikes=2)
            continue
        call.restart_clock(worker.id)
        if call.schedule.copy(assignment):
            _tell_reissued(call, supervisor, assignment, f"late: no answer for {waited:.1f} s; limit {limit:.1f} s")


def _lose(call: Call, supervisor: Supervisor, worker: str, reason: str, *, charge: bool, strikes: int = 1) -> None:
    call.forget(worker)
    _settle(call, supervisor, call.schedule.lose(worker, charge=charge), reason, lost=worker, strikes=strikes)


def _settle(
    call: Call, supervisor: Supervisor, setback: Setback, reason: str, *, lost: str | None = None, strikes: int = 1
) -> None:
    """Tells of what goes back, replaces a lost worker, and gives up on a poisoned item."""
    for assignment in setback.charged:
        call.note_loss(assignment, reason)
    for index in setback.poisoned:
        if lost is not None:
            with suppress(WorkersLost):  # the poisoned item is the better answer to why
                supervisor.lose(lost, reason, version=call.version)
        raise ShardPoisoned(
            version=call.version,
            index=index,
            describe=call.items[index].describe(),
            attempts=call.max_attempts,
            reasons=call.reasons(index),
        )
    for back in setback.returned:
        _tell_reissued(call, supervisor, back, reason)
    if lost is not None:
        supervisor.lose(lost, reason, version=call.version, strikes=strikes)


def _tell_reissued(call: Call, supervisor: Supervisor, before: Assignment, reason: str) -> None:
    supervisor.tell(
        "shard_reissued",
        version=call.version,
        index=before.index,
        attempt=before.attempt + 1,
        worker=before.worker,
        reason=reason,
    )


def _shard_failed(call: Call, assignment: Assignment, failure: Failure) -> ShardFailed:
    return ShardFailed(
        version=call.version,
        index=assignment.index,
        describe=call.items[assignment.index].describe(),
        error_type=failure.error_type,
        message=failure.message,
        remote_traceback=failure.remote_traceback,
        worker=assignment.worker,
    )
