"""From words or a picture to a vector in the space of a column, by the operators that made it.

A dataset notes how each of its vectors came to be (`weft.pipelines.origins`). From that note the
operators are made again and what is asked for goes through them: a picture through the same
decode, resize and model as the column's pictures were, so that a picture that is in the dataset
is found at a distance of zero. Words go through the operator's `embed_query`, where it has one,
as models of pictures and words do (CLIP, Radford et al. 2021, arXiv:2103.00020).

A note is data, perhaps a stranger's: it can name weft's own operators and nothing else, and a
vector is only made by an operator of the same version, parameters and weights.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from weft.errors import DefinitionError
from weft.pipelines.operator import show
from weft.pipelines.types import TYPES

Vector = npt.NDArray[np.float32]


@runtime_checkable
class EmbedsQueries(Protocol):
    """An operator whose vectors can be searched by words."""

    def embed_query(self, text: str) -> Vector:
        """The vector of words that ask for what the operator embeds."""
        ...


_TEXT = ("Text",)
_PICTURES = ("Encoded image", "Image")


@dataclass(frozen=True)
class Space:
    """The space of a column, by its origin (`weft.pipelines.origins.Origin`).

    >>> from weft.operators.image import Descriptor
    >>> note = {**Descriptor().identity(), "of": {"type": "Image"}, "out": "descriptor"}
    >>> Space([note]).has_images, Space([note]).has_text
    (True, False)

    An operator is made when it is needed, which raises:
        DefinitionError: it is not one of weft's, or would not answer here as it did when the
            column was made.
    """

    origin: Sequence[Mapping[str, Any]]

    @property
    def has_text(self) -> bool:
        """Whether words have a vector here."""
        return bool(self._part(_TEXT)) or isinstance(_operator(self.origin[-1]), EmbedsQueries)

    @property
    def has_images(self) -> bool:
        """Whether a picture has a vector here."""
        return bool(self._part(_PICTURES))

    def text(self, words: str) -> Vector:
        """The vector of words.

        Raises:
            DefinitionError: these vectors are not of a space with words in it.
        """
        last = _operator(self.origin[-1])
        part = self._part(_TEXT)
        if isinstance(last, EmbedsQueries):
            return last.embed_query(_through(part[:-1], words))
        if not part:
            raise DefinitionError(
                f"{last.name} embeds no words: search by a picture or by a row, or embed with a "
                "model of pictures and words, such as CLIP."
            )
        return _vector(_through(part, words))

    def image(self, content: bytes) -> Vector:
        """The vector of a picture, given as the bytes of an image file.

        Raises:
            DefinitionError: these vectors are not of pictures.
            RowError: `content` is not an image.
        """
        part = self._part(_PICTURES)
        if not part:
            raise DefinitionError(
                f"{self.origin[-1]['operator']} embeds no pictures: search by words or by a row."
            )
        if _kind(part[0]) == "Encoded image":
            return _vector(_through(part, content))
        from weft.operators.image import Decode

        return _vector(_through(part, Decode()(content)))

    def _part(self, kinds: Sequence[str]) -> list[Mapping[str, Any]]:
        """The operators at the end that all read one column of these kinds."""
        part: list[Mapping[str, Any]] = []
        for given in reversed(self.origin):
            if _kind(given) not in kinds:
                break
            part.insert(0, given)
        return part


def _kind(given: Mapping[str, Any]) -> str:
    """The name of the type that an operator read, with the kind of an `Encoded`."""
    of = given["of"] or {"type": "several columns"}
    return f"{of['type']} {of.get('kind') or ''}".strip()


def _through(part: Sequence[Mapping[str, Any]], value: Any) -> Any:
    for given in part:
        operator = _operator(given)
        made = operator(value)
        value = made if len(operator.writes) == 1 else made[given["out"]]
    return value


def _vector(value: Any) -> Vector:
    return np.asarray(value, np.float32)


def _operator(given: Mapping[str, Any]) -> Any:
    """The operator of an identity.

    Raises:
        DefinitionError: there is none, or it is not the same.
    """
    name = given["operator"]
    made = _class(name)(**{port: _value(v) for port, v in given["params"].items()})
    identity = made.identity()
    for part, now in identity.items():
        if now != given.get(part):
            raise DefinitionError(
                f"The column was made by {name} with {part} {show(given.get(part))}, and here it "
                f"is {show(now)}: the vectors cannot be compared. Make the column again, or "
                "search by a row."
            )
    return made


def _class(name: str) -> Any:
    import weft.operators

    family, _, own = name.partition(".")
    if own and family in {m.name for m in pkgutil.iter_modules(weft.operators.__path__) if m.ispkg}:
        package = importlib.import_module(f"weft.operators.{family}")
        if own in package._HOME:
            return getattr(package, own)
    raise DefinitionError(
        f"The column was made by {name}, which is not an operator of weft's: search by a row, or "
        "call it yourself and give the vector to weft.pipelines.indexes.nearest."
    )


def _value(given: Any) -> Any:
    """A parameter from its canonical form: see `weft.pipelines.operator.canonical`."""
    if isinstance(given, Sequence) and not isinstance(given, str):
        return tuple(_value(v) for v in given)
    if not isinstance(given, Mapping):
        return given
    if "operator" in given:
        return _operator(given)
    if "bytes" in given:
        return bytes.fromhex(given["bytes"])
    if "type" in given:
        params = dict(given)
        return TYPES[params.pop("type")]._from_params(params)
    return {k: _value(v) for k, v in given.items()}
