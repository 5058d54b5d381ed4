"""TARGET: what can name a pipeline, and what is said of what cannot."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from weft.cli.target import find, load
from weft.errors import DefinitionError

ONE = """\
import weft
from weft.connectors import Files, Lance

@weft.pipeline
def alone(source: str = "photos/*.jpg", out: str = "alone.lance"):
    return weft.read(Files(source)).select("uri").write(Lance(out))
"""


def refusal(target: str, **settings: str) -> str:
    with pytest.raises(DefinitionError) as caught:
        load(target, settings)
    return str(caught.value)


def test_a_file_with_one_pipeline_needs_no_name(work: Path) -> None:
    (work / "single.py").write_text(ONE)
    function, full = find("single.py")
    assert (function.name, full) == ("alone", f"{work}/single.py:alone")
    assert function.function.__module__ == "single"
    assert sys.modules["single"].__file__ == f"{work}/single.py"


def test_a_module_is_found_from_here(work: Path) -> None:
    (work / "packed").mkdir()
    (work / "packed" / "lines.py").write_text(ONE)
    assert find("packed.lines:alone")[1] == "packed.lines:alone"


def test_several_pipelines_are_listed(work: Path) -> None:
    assert refusal("tiny.py") == (
        f"{work}/tiny.py has 4 pipelines: small, waits, twice, chosen. Name one: tiny.py:small"
    )


def test_a_wrong_name_is_told_the_nearest(work: Path) -> None:
    assert refusal("tiny.py:smal") == (
        f"{work}/tiny.py has no pipeline 'smal'. It has: small, waits, twice, chosen. "
        "Did you mean 'small'?"
    )
    assert refusal("tiny.py:picky") == (
        f"'picky' in {work}/tiny.py is not a pipeline. Put @weft.pipeline above its function."
    )


def test_a_missing_file_is_told_the_nearest(work: Path) -> None:
    assert refusal("tini.py") == f"There is no file {work}/tini.py. Did you mean 'tiny.py'?"
    assert refusal("no/tiny.py") == (
        f"There is no file {work}/no/tiny.py: the folder {work}/no does not exist."
    )


def test_a_missing_module(work: Path) -> None:
    assert refusal("tiny2:small") == (f"There is no module 'tiny2' on the path, nor in {work}.")


def test_a_file_named_as_a_module_in_use_is_refused(work: Path) -> None:
    (work / "json.py").write_text(ONE)
    assert "the name 'json' is taken by a module that is in use" in refusal("json.py")


def test_an_error_in_the_file_shows_the_users_lines_alone(work: Path) -> None:
    (work / "broken.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
    message = refusal("broken.py")
    assert message.startswith(f"{work}/broken.py cannot be loaded; nothing was started.\nTraceback")
    assert f'File "{work}/broken.py", line 4, in <module>\n    f()' in message
    assert message.endswith("ZeroDivisionError: division by zero")
    assert "weft/cli" not in message
    assert "importlib" not in message
    assert "broken" not in sys.modules


def test_a_syntax_error(work: Path) -> None:
    (work / "typo.py").write_text("def f(:\n")
    assert f'File "{work}/typo.py", line 1' in refusal("typo.py")


def test_an_error_in_the_pipeline_function(work: Path) -> None:
    (work / "inside.py").write_text(ONE.replace('.select("uri")', ".select(nothing)"))
    message = refusal("inside.py")
    assert f'File "{work}/inside.py", line 6, in alone' in message
    assert message.endswith("NameError: name 'nothing' is not defined")


def test_a_refused_column_names_the_users_line(work: Path) -> None:
    (work / "column.py").write_text(ONE.replace('"uri"', '"urI"'))
    assert refusal("column.py").startswith(f"{work}/column.py:6\n")


def test_two_files_of_one_name_do_not_meet(work: Path) -> None:
    for folder, name in (("a", "alone"), ("b", "other")):
        (work / folder).mkdir()
        (work / folder / "same.py").write_text(ONE.replace("alone", name))
    assert find("a/same.py")[0].name == "alone"
    assert find("b/same.py")[0].name == "other"
