"""Does it learn? One-line warnings from an evaluation, as pure functions of its figures."""

from __future__ import annotations

from metadist.config import RunConfig
from metadist.config.presets import ONE_PASS, OWN
from metadist.evaluate import Report


def warnings_of(report: Report, config: RunConfig) -> list[str]:
    """What an experienced eye would remark about this report; empty when nothing is odd."""
    lost = f"{report.diverged} of {report.num_tasks} {report.split} tasks diverged in the inner loop"
    if config.algorithm.family == OWN:  # whatever its steps are, the others speak of descent
        return [lost] if report.diverged else []
    if config.algorithm.family in ONE_PASS or report.num_steps == 0:
        return []
    found = []
    metric = config.evaluation.metric or "loss"
    ways = report.facts.get("ways", config.tasks.ways)
    before, half = report.at(metric, 0)
    after, _ = report.at(metric)
    gain = after - before if config.evaluation.maximise else before - after
    chance = 1 / ways
    if metric == "accuracy" and before - 3 * half > chance + 1e-6:  # scores are float32: a mean of 0.2s is above 0.2
        found.append(
            f"accuracy with zero inner steps is {before:.1%}, above chance ({chance:.1%}): "
            "labels are not shuffled between classes, or leak into the inputs"
        )
    rate = f"algorithm.inner_lr {config.algorithm.inner_lr:g}"
    change = f"({metric} {before:.4g} -> {after:.4g})"
    if gain < -half:
        found.append(f"{report.num_steps} inner steps make it worse {change}: {rate} may be too large")
    elif gain <= half:
        sums = f" (a paper that sums its loss over classes needs {ways} times its rate here)"
        hint = f"{rate} may be too small{sums if metric == 'accuracy' else ''}"
        found.append(f"{report.num_steps} inner steps gain nothing yet {change}: {hint}")
    first, last = report.support_loss(0), report.support_loss(report.num_steps)
    if not last <= first:
        found.append(f"the support loss rises in the inner loop ({first:.4g} -> {last:.4g}): {rate} is too large")
    if report.diverged:
        found.append(lost)
    return found
