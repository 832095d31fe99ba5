"""The oracles are worth what they catch: each mutant is a mistake that public codes have made, or could.

A mutant is one change of one line in a copy of the product; the laws of gradients must fail there. Writes
``build/mutants.md``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAWS = ["tests/laws/test_gradient_truth.py", "tests/laws/test_identities.py", "tests/laws/test_adjoint.py"]
TABLE = ROOT / "build" / "mutants.md"


@dataclass(frozen=True)
class Mutant:
    """``before`` becomes ``after`` in ``file``."""

    name: str
    file: str
    before: str
    after: str


INNER, ALGORITHMS = "metadist/inner", "metadist/algorithms"
MUTANTS = [
    Mutant(
        "the inner step goes uphill",
        f"{INNER}/optimizers.py",
        "leaf - rate(name, step) * slope",
        "leaf + rate(name, step) * slope",
    ),
    Mutant("unrolled: the Hessian term is dropped", f"{INNER}/loop.py", "if not loop.curved:", "if True:"),
    Mutant(
        "adjoint: the Hessian term is dropped",
        f"{INNER}/gradients.py",
        "return _sum(by_meta, more_meta), by_state._replace(params=_sum(by_state.params, more_params))",
        "return by_meta, by_state",
    ),
    Mutant(
        "adjoint: what phi does in a step directly is left out",
        f"{INNER}/gradients.py",
        "            total = _sum(total, slope)\n            if",
        "            if",
    ),
    Mutant(
        "adjoint: the start's derivative is left out",
        f"{INNER}/gradients.py",
        "return _sum(total, finish(meta, ctx, step_number(0), task, lam)), metrics",
        "return total, metrics",
    ),
    Mutant(
        "adjoint: earlier losses do not reach earlier states",
        f"{INNER}/gradients.py",
        "total, lam = _sum(total, slope), _sum(lam, direct)",
        "total = _sum(total, slope)",
    ),
    Mutant(
        "the support set is judged, not the query set",
        f"{ALGORITHMS}/descent.py",
        'needs(task.support, "support"), needs(task.query, "query")',
        'needs(task.support, "support"), needs(task.support, "query")',
    ),
    Mutant(
        "one inner step is detached",
        f"{INNER}/loop.py",
        "        states.append(take_step(loop, meta, states[-1], support, ctx, step_number(k)))",
        "        states.append(take_step(loop, meta, states[-1], support, ctx, step_number(k)))\n"
        "        if k == 0:\n"
        "            states[-1] = states[-1]._replace(params={n: v.detach() for n, v in states[-1].params.items()})",
    ),
    Mutant(
        "a mean of weighted values instead of a weighted mean",
        "metadist/objectives/supervised.py",
        "(values * weight).sum() / torch.where(total > 0, total, torch.ones_like(total))",
        "(values * weight).mean()",
    ),
    Mutant(
        "no gradient through the support statistics",
        f"{ALGORITHMS}/interface.py",
        "return model.forward(params, support.x, None)[1] if",
        "return {n: v.detach() for n, v in model.forward(params, support.x, None)[1].items()} if",
    ),
    Mutant("Reptile walks away", f"{ALGORITHMS}/reptile.py", "(leaf - state.params", "(state.params"),
    Mutant(
        "iMAML: the implicit term has the wrong sign",
        f"{ALGORITHMS}/imaml.py",
        "tree_map(torch.sub, direct",
        "tree_map(torch.add, direct",
    ),
    Mutant(
        "iMAML: the pull to the start is half as strong",
        f"{ALGORITHMS}/imaml.py",
        "settings.proximal / 2 *",
        "settings.proximal / 4 *",
    ),
    Mutant(
        "ProtoMAML: the bias has the wrong sign", f"{ALGORITHMS}/protomaml.py", "-centres.square()", "centres.square()"
    ),
    Mutant(
        "ProtoNet: sums instead of means",
        f"{ALGORITHMS}/protonet.py",
        "(belongs.T @ features) / belongs.sum(0)[:, None]",
        "belongs.T @ features",
    ),
    Mutant("R2D2: the ridge is subtracted", f"{ALGORITHMS}/r2d2.py", "gram + strength", "gram - strength"),
    Mutant(
        "Adam's bias correction is one step ahead", f"{INNER}/optimizers.py", "count = (step + 1)", "count = (step + 2)"
    ),
    Mutant("Nesterov is plain momentum", f"{INNER}/optimizers.py", "if nesterov else speed", "if False else speed"),
    Mutant("a learned rate is that of the next step", f"{INNER}/rates.py", "step.clamp(", "(step + 1).clamp("),
    Mutant(
        "each step has the first step's scale and shift",
        f"{ALGORITHMS}/descent.py",
        "row(meta.inner[AFFINE + name], k)",
        "row(meta.inner[AFFINE + name], 0 * k)",
    ),
    Mutant(
        "MAML++: the weights of the losses do not sum to one",
        f"{ALGORITHMS}/maml.py",
        "last = 1 - (num_steps - 1) * early",
        "last = 1 - num_steps * early",
    ),
    Mutant("each mini-batch is of another pass", f"{INNER}/loop.py", "k // turns", "k"),
]


@pytest.mark.laws
@pytest.mark.timeout(3600)
def test_every_mutant_is_caught(tmp_path: Path) -> None:
    caught = {mutant.name: first_failure(mutant, tmp_path / str(place)) for place, mutant in enumerate(MUTANTS)}
    rows = [f"| {name} | {f'`{law}`' if law else 'nothing'} |" for name, law in caught.items()]
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("\n".join(["| mutant | caught by |", "|---|---|", *rows]) + "\n")
    assert [name for name, law in caught.items() if law is None] == []


def first_failure(mutant: Mutant, folder: Path) -> str | None:
    """The first law that fails in a copy of the product with this mutant; None where none does."""
    for package in ("cluster", "metadist", "tasks_store", "tests"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", folder)
    file = folder / mutant.file
    text = file.read_text()
    assert text.count(mutant.before) == 1, f"{mutant.name}: does not fit the code any more"
    file.write_text(text.replace(mutant.before, mutant.after))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not laws and not slow", *LAWS],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in (0, 1), f"{mutant.name}: the laws did not run:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}"
    failed = [line for line in ran.stdout.splitlines() if line.startswith("FAILED")]
    return failed[0].split()[1].rpartition("/")[2] if failed else None
