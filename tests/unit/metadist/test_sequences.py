"""The sequence encoders: against torch's own layers, padding, token ids; and what they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metadist.config import ModelConfig
from metadist.errors import ModelError
from metadist.models import Model, build_model
from metadist.models.gru import GRU
from metadist.models.probe import probe
from metadist.models.transformer import Transformer, positions
from metadist.shard import batched
from metadist.tasks import Batch, Task, TaskSpec
from tasks_store import Column, write_store
from tests.support import loops, oracle
from tests.support.cases import CASES, Problem, build
from tests.support.draws import PROGRESS, context, draw_params, one, relative, vector
from tests.support.quick import train_quickly
from tests.support.toys import IMAGE_TOY

VALUES = TaskSpec(kind="classes", input_shape=(6, 3), outputs=4, shots=2, queries=2)
IDS = TaskSpec(kind="classes", input_shape=(6,), outputs=4, shots=2, queries=2)
VOCABULARY = 9
OPTIONS: dict[str, dict[str, Any]] = {
    "gru": {"width": 6, "layers": 2},
    "transformer": {"width": 6, "layers": 2, "heads": 3},
}
NAMES = pytest.mark.parametrize("name", OPTIONS)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))


def make(name: str, spec: TaskSpec, *, embedding: bool = False, **options: Any) -> Model:
    config = ModelConfig(name=name, options={**OPTIONS[name], **options})  # type: ignore[arg-type]
    return build_model(config, spec, 0, embedding=embedding)


def outputs(model: Model, x: Any) -> Tensor:
    return model.forward({name: leaf.double() for name, leaf in model.initial(0).items()}, x)[0]


def test_the_gru_is_torchs() -> None:
    ours, theirs, x = GRU(4, 2, 0.0).double(), nn.GRU(4, 4, 2, batch_first=True).double(), draw(3, 6, 4)
    for layer, cell in enumerate(ours.cells):
        for mine, name in (("input", "ih"), ("recurrent", "hh")):
            for part in ("weight", "bias"):
                value = getattr(theirs, f"{part}_{name}_l{layer}")
                cell.get_submodule(mine).get_parameter(part).data.copy_(value.data)
    mask = torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
    assert torch.allclose(ours(x, torch.ones_like(mask)), theirs(x)[0], rtol=1e-12, atol=1e-12)
    lengths = mask.sum(1)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    assert torch.allclose(ours(x, mask)[:, -1], theirs(packed)[1][-1], rtol=1e-12, atol=1e-12)


def test_the_transformer_is_torchs() -> None:
    layer = nn.TransformerEncoderLayer(6, 3, 24, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(layer, 2, nn.LayerNorm(6), enable_nested_tensor=False).double()
    ours, x = Transformer(6, 2, 3, 0.0).double(), draw(3, 5, 6)
    names = {
        "attention_norm": "norm1",
        "mlp_norm": "norm2",
        "attention.output": "self_attn.out_proj",
        "mlp.0": "linear1",
        "mlp.2": "linear2",
    }
    with torch.no_grad():
        for place, (mine, other) in enumerate(zip(ours.blocks, theirs.layers, strict=True)):
            for leaf in other.parameters():
                leaf.add_(0.1 * (place + 1))
            for one_name, other_name in names.items():
                mine.get_submodule(one_name).load_state_dict(other.get_submodule(other_name).state_dict())
            other.self_attn.in_proj_bias.zero_()
            mine.attention.inputs.weight.copy_(other.self_attn.in_proj_weight)
    mask = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]
    found, expected = ours(x, mask), theirs(x + positions(x), src_key_padding_mask=~mask)
    assert torch.allclose(found[mask], expected[mask], rtol=1e-10, atol=1e-10)


def tokens(count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(VOCABULARY, (count, 6), generator=generator)
    return ids, (torch.arange(6) < torch.tensor([6, 4, 1, 2])[:count, None]).long()


@NAMES
def test_padding_is_not_seen(name: str) -> None:
    model, (ids, mask) = make(name, IDS, vocabulary=VOCABULARY), tokens()
    found = outputs(model, {"ids": ids, "mask": mask})
    other = torch.where(mask == 1, ids, (ids + 5) % VOCABULARY)
    assert torch.equal(found, outputs(model, {"ids": other, "mask": mask == 1}))
    assert not torch.allclose(found, outputs(model, {"ids": other, "mask": torch.ones_like(mask)}))
    for row, length in enumerate(mask.sum(1)):
        alone = outputs(model, ids[row : row + 1, :length])
        assert torch.allclose(found[row : row + 1], alone, rtol=1e-10, atol=1e-12)


@NAMES
def test_a_sequence_without_a_place_has_no_features(name: str) -> None:
    model, (ids, mask) = make(name, IDS, embedding=True, vocabulary=VOCABULARY), tokens()
    mask[1] = 0
    params = {leaf_name: leaf.double().requires_grad_() for leaf_name, leaf in model.initial(0).items()}
    found = model.forward(params, {"ids": ids, "mask": mask})[0]
    assert bool((found[1] == 0).all()) and bool((found[0] != 0).all())
    slopes = torch.autograd.grad((found**2).sum(), list(params.values()))
    assert all(bool(torch.isfinite(slope).all()) for slope in slopes)


@NAMES
def test_ids_come_as_a_tensor_or_by_name_in_any_dtype(name: str) -> None:
    model, (ids, mask) = make(name, IDS, vocabulary=VOCABULARY), tokens()
    expected = outputs(model, ids)
    for x in (ids.float(), ids.int(), {"ids": ids}, {"x": ids}, {"ids": ids, "mask": torch.ones_like(mask)}):
        assert torch.equal(outputs(model, x), expected)
    with pytest.raises(ModelError, match="x or ids, and one of them only"):
        outputs(model, {"mask": mask})


@NAMES
def test_order_is_seen(name: str) -> None:
    model, x = make(name, VALUES), draw(2, 6, 3)
    assert not torch.allclose(outputs(model, x), outputs(model, x.flip(1)), atol=1e-4)


@NAMES
@pytest.mark.parametrize("spec", [VALUES, IDS], ids=["values", "ids"])
def test_the_probe_draws_what_the_model_takes(name: str, spec: TaskSpec) -> None:
    options = {"vocabulary": VOCABULARY} if spec is IDS else {}
    model = make(name, spec, dropout=0.3, **options)
    assert model.vocabulary == options.get("vocabulary") and model.drops
    probe(model, model.initial(0), spec, outputs=4, second_order=True, vmapped=True)


@NAMES
@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        (IDS, {}, r"sequences \(length, values\).*\(6,\).*vocabulary"),
        (VALUES, {"vocabulary": 5}, r"ids \(length,\).*\(6, 3\)"),
        (IDS, {"vocabulary": 0}, "vocabulary is 0"),
        (VALUES, {"depth": 5}, "depth"),
        (VALUES, {"dropout": 1.0}, "dropout p is 1.0"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, spec: TaskSpec, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        make(name, spec, **options)


def test_heads_divide_the_width() -> None:
    with pytest.raises(ModelError, match=r"width 6 is not a multiple of model.options.heads 4"):
        make("transformer", VALUES, heads=4)


@NAMES
@pytest.mark.parametrize("zero_head", [True, False])
def test_the_head_may_begin_at_zero(name: str, zero_head: bool) -> None:
    assert bool((outputs(make(name, VALUES, zero_head=zero_head), draw(2, 6, 3)) == 0).all()) == zero_head


@NAMES
@pytest.mark.parametrize("gradient", ["unroll", "adjoint"])
def test_the_meta_gradient_with_ids_and_mask_is_that_of_a_loop(name: str, gradient: str) -> None:
    """MAML of three steps under vmap on padded sequences, against plain autograd on each sequence cut short."""
    case = next(case for case in CASES if case.name == "maml-3")
    case = type(case)(name="ids", section={**case.section, "gradient": gradient}, oracle=case.oracle, scalar=True)
    options = {**OPTIONS[name], "vocabulary": VOCABULARY}
    problem = Problem(name=name, model={"name": name, "options": options}, spec=IDS)
    built = build(case, problem, "transductive")
    generator, count = torch.Generator().manual_seed(0), 2

    def half() -> Batch:
        lengths = torch.randint(1, 7, (count, 8, 1), generator=generator)
        ids = torch.randint(VOCABULARY, (count, 8, 6), generator=generator)
        x = {"ids": ids, "mask": (torch.arange(6) < lengths).long()}
        return Batch(x, (torch.arange(8) // 2).expand(count, -1))

    params, tasks = draw_params(built), Task(half(), half())
    found, _ = batched(built.algorithm.meta_gradient)(params, tasks, context(count))
    net = (
        oracle.gru(2, head=True) if name == "gru" else oracle.transformer(2, OPTIONS["transformer"]["heads"], head=True)
    )
    settings = built.config.algorithm.model_dump()
    for index in range(count):
        row = loops.Problem(case.oracle, settings, net, 4, index, PROGRESS)
        task = one(tasks, index)
        assert task.support is not None and task.query is not None
        leaves = {f"model.{leaf_name}": leaf for leaf_name, leaf in params.model.items()}
        halves = [(batch.x, batch.y) for batch in (task.support, task.query)]
        expected = loops.direction(row, leaves, *halves)  # type: ignore[arg-type]
        mine = {leaf_name: leaf[index] for leaf_name, leaf in found.model.items()}
        assert relative(vector(mine), vector(expected)) <= 1e-10


def ids_store(place: Path) -> Path:
    """Noisy copies of one sequence of token ids a class."""

    def rows() -> Iterator[dict[str, Any]]:
        draws = np.random.default_rng(0)
        for split, classes in {"train": 8, "validation": 5, "test": 5}.items():
            for number in range(classes):
                own = draws.integers(0, VOCABULARY, 6)
                for _ in range(8):
                    ids = np.where(draws.random(6) < 0.2, draws.integers(0, VOCABULARY, 6), own)
                    yield {"group": f"{split}-{number}", "split": split, "ids": ids}

    write_store(rows(), place, name="ids", kind="classes", columns=[Column(name="ids", dtype="int64", shape=(6,))])
    return place


@pytest.mark.parametrize("algorithm", [{"name": "protomaml", "inner_lr": 0.1}, {"name": "r2d2"}], ids=["loop", "ridge"])
def test_a_run_on_token_ids_of_a_store(algorithm: dict[str, Any], tmp_path: Path) -> None:
    """Sources hand over float32, which holds the ids exactly."""
    settings = {
        "tasks.path": str(ids_store(tmp_path / "store")),
        "tasks.transform": [],
        "model": {"name": "transformer", "options": {**OPTIONS["transformer"], "vocabulary": VOCABULARY}},
        "algorithm": algorithm,
    }
    run = train_quickly(IMAGE_TOY, settings, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metadist.run_reader._tell", lambda *arguments: None)
        accuracy, _ = run.evaluate(num_tasks=24).at("accuracy")
    assert accuracy > 0.6, "three classes; chance is 0.33"
