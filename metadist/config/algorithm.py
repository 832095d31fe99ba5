"""The section of the algorithm: how a task adapts, and what the outer loop learns from it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from metadist.config.presets import check_algorithm, family_of
from metadist.config.sections import Section


class InnerOptimizerConfig(Section):
    """What the inner loop does with a slope; the rate is ``algorithm.inner_lr``."""

    name: Literal["sgd", "adam"] = "sgd"
    momentum: float = Field(0.0, ge=0, lt=1)
    nesterov: bool = False
    betas: tuple[float, float] = Field((0.9, 0.999), description="adam")
    eps: float = Field(1e-8, gt=0, description="adam")
    weight_decay: float = Field(0.0, ge=0)
    clip_norm: float | None = Field(None, gt=0, description="longest slope over all adapted leaves of a task")

    @model_validator(mode="after")
    def _fits(self) -> InnerOptimizerConfig:
        if self.nesterov and not self.momentum:
            raise ValueError("algorithm.inner_optimizer.nesterov needs a momentum above zero")
        if self.name == "adam" and self.momentum:
            raise ValueError("algorithm.inner_optimizer.momentum belongs to sgd; adam has betas")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"algorithm.inner_optimizer.betas {self.betas} must lie in 0..1, below 1")
        return self


class AlgorithmConfig(Section):
    """How a task adapts and what the outer loop learns from it. `metadist.config.presets`: what names stand for."""

    name: str = Field(description='one of metadist.config.presets.PRESETS, or of your own: "my_package.module:build"')
    options: dict[str, Any] = Field({}, description="read by an algorithm of your own")
    features: bool = Field(False, description="an algorithm of your own takes a shipped model's features")
    inner_steps: int = Field(1, ge=0, description="0 trains the pooled model, without adaptation")
    inner_lr: float = Field(0.1, ge=0)
    inner_optimizer: InnerOptimizerConfig = InnerOptimizerConfig()
    inner_batch_size: PositiveInt | None = Field(None, description="support examples a step; all of them where null")
    learned_rates: Literal["none", "leaf", "leaf-step", "element"] = "none"
    adapt: tuple[str, ...] = Field(("*",), description='leaves that the inner loop moves; "!pattern" takes some out')
    normalisation: Literal["inductive", "transductive", "per-step", "per-step-inductive"] = "inductive"
    first_order: bool = Field(False, description="inner gradients are constants to the outer loop")
    second_order_from: float = Field(0.0, ge=0, le=1, description="share of the run before second derivatives count")
    multi_step: float = Field(0.0, ge=0, le=1, description="share of the run in which the loss of every step counts")
    gradient: Literal["auto", "unroll", "adjoint"] = "auto"
    hessian: Literal["reverse", "forward"] = Field("reverse", description="how the adjoint multiplies by a Hessian")
    proximal: float = Field(2.0, gt=0, description="imaml: strength of the pull to the start")
    cg_steps: PositiveInt = Field(5, description="imaml: steps of conjugate gradients")
    distance: Literal["euclidean", "cosine"] = Field("euclidean", description="protonet")
    temperature: float = Field(10.0, gt=0, description="protonet: factor of the cosine")
    ridge: float = Field(1.0, gt=0, description="r2d2: initial strength of the ridge, learned")
    prior_head: bool = Field(False, description="r2d2 in regression: shrink to a learned head, not to zero")

    @model_validator(mode="after")
    def _known(self) -> AlgorithmConfig:
        defaults = {key: field.get_default() for key, field in type(self).model_fields.items()}
        check_algorithm(self.name, {key: getattr(self, key) for key in defaults}, self.model_fields_set, defaults)
        return self

    @property
    def family(self) -> str:
        """The function that builds it: ``maml``, ``reptile``, ..., or ``own``."""
        return family_of(self.name)
