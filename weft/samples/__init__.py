"""A small multimodal data set with known truth: what ``weft sample DIR`` writes.

The photographs are real and come with scikit-image and scikit-learn; clips, sounds, papers and
logs are made here, so that what is in them is known and nothing is fetched. The same versions
of the libraries make the same bytes. Some files are broken on purpose.

::

    DIR/photos/   photographs in five formats, three broken files
        captions.csv  photo, caption, label
        clips/    videos with known cuts and sound, one cut short
        sounds/   tones, noise and speech-like sound with known pauses
        papers/   PDF files with known words, one of them damaged
        texts/    good and bad prose, in several languages
        logs/     a robot's log: camera and motion, with a gap
        truth.json    what is known of each file
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weft.errors import DefinitionError

KINDS = ("photos", "clips", "sounds", "papers", "texts", "logs")
"""The folders of a sample; each is made by the module of its name."""

Made = tuple[dict[str, bytes], dict[str, dict[str, Any]]]
"""Files by name, and what is known of them."""


def write_samples(folder: Path) -> dict[str, dict[str, Any]]:
    """Write the data set below `folder`; what is known of each file, by its path there.

    A file that is there already and as it should be is not touched: its time stays, so a
    pipeline that has seen it finds nothing new.

    Raises:
        DefinitionError: a package is missing that photographs or papers come from.
        OSError: a file cannot be written.
    """
    truth: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        files, known = _maker(kind)()
        for name, content in files.items():
            _write(folder / kind / name, content)
        truth |= {f"{kind}/{name}": about for name, about in known.items()}
    captions = [["photo", "caption", "label"]]
    for path, about in truth.items():
        if "caption" in about:
            captions.append([path.removeprefix("photos/"), about["caption"], about["label"]])
    lines = "".join(f'{photo},"{caption}",{label}\n' for photo, caption, label in captions)
    _write(folder / "captions.csv", lines.encode())
    _write(folder / "truth.json", json.dumps(truth, indent=1, sort_keys=True).encode())
    return truth


def _maker(kind: str) -> Callable[[], Made]:
    try:
        found: Callable[[], Made] = importlib.import_module(f"{__name__}.{kind}").make
    except ModuleNotFoundError as error:
        raise DefinitionError(
            f"weft sample makes {kind} with {error.name}, which is not installed: "
            "pip install 'weft[sample]'"
        ) from error
    return found


def _write(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
