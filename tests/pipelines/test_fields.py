"""Named types in order."""

from __future__ import annotations

import pyarrow as pa
import pytest

import weft
from weft.errors import DefinitionError
from weft.pipelines.fields import Fields, arrow_schema, fields_of
from weft.pipelines.types import Float32, Image, Int64, Text

SOME = weft.fields(image=Image, sharpness=Float32, uri=str)


def test_order_and_equality() -> None:
    assert list(SOME) == ["image", "sharpness", "uri"]
    assert str(SOME) == "image: Image, sharpness: Float32, uri: Text"
    assert Fields({"image": Image(), "sharpness": Float32(), "uri": Text()}) == SOME
    assert weft.fields(uri=str, sharpness=Float32, image=Image) != SOME
    assert hash(SOME) == hash(Fields(SOME))
    assert {"image": Image()} != SOME


def test_only_and_merge() -> None:
    assert list(SOME.only(["uri", "image"])) == ["uri", "image"]
    merged = SOME.merge({"image": Image(2, 2), "n": Int64()})
    assert str(merged) == "image: Image(2x2), sharpness: Float32, uri: Text, n: Int64"


def test_unknown_name() -> None:
    with pytest.raises(DefinitionError) as error:
        SOME.require("sharpnes")
    assert str(error.value) == (
        "There is no column 'sharpnes'. Given: image, sharpness, uri. Did you mean 'sharpness'?"
    )
    with pytest.raises(DefinitionError) as error:
        Fields().require("x", "port")
    assert str(error.value) == "There is no port 'x'. Given: none."


@pytest.mark.parametrize("name", ["_key", "a b", "", "1st"])
def test_names_that_are_not_the_users(name: str) -> None:
    with pytest.raises(DefinitionError) as error:
        Fields({name: int})
    assert str(error.value) == (
        f"{name!r} cannot name a field. Expected an identifier that does not start with an "
        "underscore: those belong to the engine."
    )


def test_arrow() -> None:
    schema = arrow_schema(SOME)
    assert fields_of(schema) == SOME
    assert schema.field("uri").type == pa.string()
    assert not schema.field("uri").nullable
    assert fields_of(schema.append(pa.field("_key", pa.string()))) == SOME


def test_row_bytes() -> None:
    assert weft.fields(a=Float32, b=Image(10, 10)).row_bytes == 4 + 300
