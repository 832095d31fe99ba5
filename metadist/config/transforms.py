"""The transforms of a configuration: ``{name: ..., options: {...}}``, shipped or a user's own."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from metadist.config.presets import check_shipped, is_own
from metadist.config.sections import Section, checked_options


class PixelsOptions(Section):
    """Of ``pixels``: uint8 images (H, W) or (H, W, C) to 0..1, channels first."""


class StandardizeOptions(Section):
    """Of ``standardize``: mean 0 and deviation 1 over the training split."""

    over: Literal["rows", "everything"] = Field("rows", description="each element of a row alone, or all together")


class Log1pOptions(Section):
    """Of ``log1p``: log(1 + x)."""


class OneHotOptions(Section):
    """Of ``one_hot``: a column for each value of the training split."""

    limit: PositiveInt = Field(1000, description="more different values are refused")


class TokenizeOptions(Section):
    """Of ``tokenize``: text to token ids and a mask."""

    unit: Literal["words", "characters", "bytes", "pretrained"] = "words"
    path: str | None = Field(None, description="unit pretrained: folder with the encoder's tokenizer.json")
    length: PositiveInt = Field(32, description="tokens of an example: longer ones are cut, shorter ones padded")
    vocabulary: int = Field(5000, ge=3, description="the most ids, padding (0) and unknown (1) included")
    lower: bool = True

    @model_validator(mode="after")
    def _read(self) -> TokenizeOptions:
        if self.unit == "bytes" and "vocabulary" in self.model_fields_set:
            raise ValueError("vocabulary is not read with unit bytes, of which there are 258 ids")
        if (self.unit == "pretrained") != (self.path is not None):
            raise ValueError("unit pretrained and path, the folder with tokenizer.json, go together")
        unread = {"vocabulary", "lower"} & self.model_fields_set
        if self.unit == "pretrained" and unread:
            raise ValueError(f"{', '.join(sorted(unread))} is the pretrained tokenizer's own; leave it out")
        return self


class AugmentOptions(Section):
    """Of ``augment``: images moved and mirrored, in training only."""

    flip: bool = False
    shift: NonNegativeInt = Field(0, description="pixels, at most, along both axes")

    @model_validator(mode="after")
    def _does_something(self) -> AugmentOptions:
        if not self.flip and not self.shift:
            raise ValueError("neither flip nor shift is set, so nothing would change")
        return self


INVERTIBLE = ("standardize", "log1p")
OPTIONS: dict[str, type[Section]] = {
    "pixels": PixelsOptions,
    "standardize": StandardizeOptions,
    "log1p": Log1pOptions,
    "one_hot": OneHotOptions,
    "tokenize": TokenizeOptions,
    "augment": AugmentOptions,
}


class Transform(Section):
    """A step between column and tensor: a shipped one, or ``"my_package.module:build"``."""

    name: str
    options: dict[str, Any] = Field({}, description="see metadist.config.transforms; or of a transform of your own")

    @model_validator(mode="after")
    def _known(self) -> Transform:
        if not is_own(self.name):
            check_shipped("tasks.transform", self.name, tuple(OPTIONS), {})
            self.checked()
        return self

    def checked(self) -> Section:
        """The options of a shipped one, with defaults."""
        return checked_options(OPTIONS[self.name], self.options, f"transform {self.name}")

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without options where there are none, as runs of earlier versions have it."""
        kept: dict[str, Any] = {key: value for key, value in handler(self).items() if key != "options" or value}
        return kept


def is_pretrained(transform: Transform) -> bool:
    """Whether it takes its tokens from an encoder's folder."""
    return transform.name == "tokenize" and transform.options.get("unit") == "pretrained"


def check_targets(transforms: tuple[Transform, ...]) -> None:
    """Refuse to transform targets by what cannot be undone, since answers are in the units of the column.

    Raises:
        ValueError: says which one.
    """
    for transform in transforms:
        if transform.name not in INVERTIBLE:
            raise ValueError(
                f"tasks.target_transform: {transform.name} cannot be undone; use {' or '.join(INVERTIBLE)}"
            )


def check_order(transforms: tuple[Transform, ...]) -> None:
    """Refuse an order in which a shipped transform cannot work.

    Raises:
        ValueError: says which one, and where it belongs.
    """
    names = [transform.name for transform in transforms]
    if "augment" in names and "pixels" in names[: names.index("augment")]:
        raise ValueError("tasks.transform: augment takes images as they are stored; put it before pixels")
    if "tokenize" in names[:-1]:
        raise ValueError("tasks.transform: tokenize gives ids and a mask, which no other one takes; put it last")
