"""A tiny BERT: its folder, tasks of token ids as a source of one's own, and its formula, sentence by sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.parameters import aligned
from metadist.seeding import generator, key
from metadist.tasks import Batch, Task, TaskSpec
from tests.support.oracle import Net, Statistics, Weights

VOCABULARY, LENGTH, PADDING = 30, 6, 0
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 12,
    "pad_token_id": PADDING,
}
EPS = 1e-12


def write_bert(folder: Path, *, weights: bool = True, kind: str = "bert", **sizes: Any) -> Path:
    """A random encoder as ``save_pretrained`` writes it, or its configuration alone."""
    from transformers import CONFIG_MAPPING, AutoModel

    config = CONFIG_MAPPING[kind](**{**SIZES, **sizes})
    if weights:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            AutoModel.from_config(config).save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    return folder


def write_tokenizer(folder: Path, texts: Iterable[str], size: int = VOCABULARY) -> None:
    """A ``tokenizer.json`` of whole words with BERT's special tokens, as a pretrained encoder brings one."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(texts, trainers.WordLevelTrainer(vocab_size=size, special_tokens=special))
    ends = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    made.save(str(folder / "tokenizer.json"))


class Sentences:
    """Random sentences of unequal lengths; a class is a few words. See `metadist.tasks.TaskSource`."""

    fingerprint = "sentences"

    def __init__(
        self,
        *,
        run_seed: int,
        evaluation_seed: int,
        sizes: tuple[int, int],
        fixed_sizes: tuple[int, int],
        ways: int = 3,
    ) -> None:
        self.run_seed, self.evaluation_seed = run_seed, evaluation_seed
        self.spec, self.fixed_spec = (
            TaskSpec(kind="classes", input_shape=(LENGTH,), outputs=ways, shots=shots, queries=queries)
            for shots, queries in (sizes, fixed_sizes)
        )

    def check(self, split: str, *, fixed: bool) -> None:
        pass

    def batch(self, split: str, step: int, start: int, stop: int) -> Task:
        return self._tasks([generator(self.run_seed, split, step, index) for index in range(start, stop)], self.spec)

    def fixed(self, split: str, start: int, stop: int) -> Task:
        draws = [generator(self.evaluation_seed, split, index) for index in range(start, stop)]
        return self._tasks(draws, self.fixed_spec)

    def task_set(self, split: str, num_tasks: int) -> str:
        return f"{key(str(self.fixed_spec), self.evaluation_seed, split, num_tasks):032x}"

    def _tasks(self, draws: list[np.random.Generator], spec: TaskSpec) -> Task:
        halves = []
        words = [draw.integers(1, VOCABULARY, (spec.outputs, 4)) for draw in draws]
        for count in (spec.shots, spec.queries):
            rows = [
                [_sentence(draw, own[way]) for way in range(spec.outputs) for _ in range(count)]
                for draw, own in zip(draws, words, strict=True)
            ]
            labels = np.tile(np.repeat(np.arange(spec.outputs), count), (len(draws), 1))
            halves.append(Batch(aligned(np.array(rows, np.float32)), aligned(labels)))
        return Task(*halves)


def _sentence(draw: np.random.Generator, own: Any) -> list[int]:
    length = int(draw.integers(2, LENGTH + 1))
    return [int(draw.choice(own)) for _ in range(length)] + [PADDING] * (LENGTH - length)


def formula(frozen: Mapping[str, Tensor], *, layers: int, heads: int, scale: float, head: bool) -> Net:
    """BERT (Devlin et al. 2019) with adapters, of each sentence without its padding; the mean of its last states."""

    def net(weights: Weights, x: Tensor, statistics: Statistics | None) -> tuple[Tensor, Statistics]:
        leaves = {name.removeprefix("encoder."): leaf for name, leaf in {**frozen, **weights}.items()}
        rows = [[int(word) for word in row if word != PADDING] for row in x.tolist()]
        features = torch.stack([_states(leaves, row, layers, heads, scale).mean(0) for row in rows])
        return (F.linear(features, weights["head.weight"], weights["head.bias"]) if head else features), []

    return net


def _states(leaves: Mapping[str, Tensor], words: list[int], layers: int, heads: int, scale: float) -> Tensor:
    def linear(name: str, x: Tensor) -> Tensor:
        weight = leaves[f"{name}.weight"]
        if f"{name}.up" in leaves:
            weight = weight + scale * leaves[f"{name}.up"] @ leaves[f"{name}.down"]
        return x @ weight.T + leaves[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        unit = centred / torch.sqrt((centred**2).mean(1, keepdim=True) + EPS)
        return unit * leaves[f"{name}.weight"] + leaves[f"{name}.bias"]

    table = {kind: leaves[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")}
    x = torch.stack([table["word"][word] + table["position"][i] for i, word in enumerate(words)])
    x = norm("embeddings.LayerNorm", x + table["token_type"][0])
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        query, keys, value = (linear(f"{at}.attention.self.{part}", x) for part in ("query", "key", "value"))
        size = x.shape[1] // heads
        mixed = []
        for cut in (slice(a, a + size) for a in range(0, x.shape[1], size)):
            likeness = torch.exp(query[:, cut] @ keys[:, cut].T / math.sqrt(size))
            mixed.append(likeness / likeness.sum(1, keepdim=True) @ value[:, cut])
        x = norm(f"{at}.attention.output.LayerNorm", x + linear(f"{at}.attention.output.dense", torch.cat(mixed, 1)))
        y = linear(f"{at}.intermediate.dense", x)
        y = linear(f"{at}.output.dense", y * (1 + torch.erf(y / math.sqrt(2))) / 2)
        x = norm(f"{at}.output.LayerNorm", x + y)
    return x
