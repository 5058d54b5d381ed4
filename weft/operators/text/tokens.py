"""Tokenizers from local files: where the tokens of a text are, and which tokenizer it was."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from weft.errors import DefinitionError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Spans = list[tuple[int, int]]


def find(path: str | Path, what: str) -> Path:
    """The ``tokenizer.json`` that `path` is, or the one in the folder that `path` is.

    Raises:
        DefinitionError: there is none; `what` names the parameter.
    """
    file = Path(path).expanduser()
    file = file / "tokenizer.json" if file.is_dir() else file
    if not file.is_file():
        raise DefinitionError(
            f"{what}={str(path)!r}: expected a tokenizer.json, or a folder that has one, as "
            "AutoTokenizer.from_pretrained(…).save_pretrained(folder) writes it. Nothing is "
            "downloaded."
        )
    return file


def digest(file: Path) -> str:
    """sha256 of a tokenizer file, as hex; read again only when the file changes."""
    status = file.stat()
    return _digest(file, status.st_mtime_ns, status.st_size)


@functools.lru_cache
def _digest(file: Path, modified: int, size: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def load(file: Path, what: str) -> Tokenizer:
    """The tokenizer, whole texts in one piece: files often say to cut them at the model's length.

    Raises:
        DefinitionError: the package tokenizers is missing, or cannot read the file.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise DefinitionError(
            f"{what} needs the package tokenizers. Install it: pip install 'weft[text]'"
        ) from error
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the Rust side raises Exception itself
        raise DefinitionError(f"{what}: {file} is not a tokenizer file: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def spans(tokenizer: Tokenizer, text: str) -> Spans:
    """Where each token is in `text`, in characters, half open; without special tokens."""
    offsets: Spans = tokenizer.encode(text, add_special_tokens=False).offsets
    return offsets
