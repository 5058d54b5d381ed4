"""TARGET: from ``file.py``, ``file.py:name`` or ``package.module:name`` to a pipeline.

A file is imported as Python would run it, with its folder first on the path, but under a module
of the file's own name, so that workers can be sent what it defines. An error in it is told with
the user's lines of the traceback and no others.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import weft
from weft.errors import DefinitionError, WeftError, nearest
from weft.pipelines.dsl import PipelineFunction

if TYPE_CHECKING:
    from weft.pipelines.dsl import Pipeline

T = TypeVar("T")

_OURS = (str(Path(weft.__file__).parent) + os.sep, "<frozen importlib")

_loaded: set[str] = set()
"""Modules made here, which loading another file of the same name may replace."""


def load(target: str, settings: Mapping[str, Any]) -> tuple[Pipeline, str]:
    """The pipeline that `target` names, with these parameters; and the target written out, so
    that it means the same from any folder.

    Raises:
        DefinitionError: no such file, module or pipeline; several to choose from; it cannot be
            imported; wrong parameters.
    """
    function, full = find(target)
    return _guarded(full, lambda: function(**settings)), full


def find(target: str) -> tuple[PipelineFunction, str]:
    """The pipeline function that `target` names, and the target written out."""
    where, name = _split(target)
    if where.endswith(".py"):
        path = _file(where)
        module, where = _import_file(path), str(path)
    else:
        module = _import_module(where)
    function = _choose(module, where, name)
    return function, f"{where}:{function.name}"


def _split(target: str) -> tuple[str, str | None]:
    where, separator, name = target.rpartition(":")
    if not separator:
        where, name = target, ""
    if not where.endswith(".py") and (os.sep in where or Path(where).exists()):
        raise DefinitionError(
            f"{target!r} names no pipeline. Expected file.py, file.py:name or package.module:name."
        )
    return where, name or None


def _file(where: str) -> Path:
    path = Path(where).expanduser().absolute()
    if path.is_file():
        return path
    parent = path.parent
    if not parent.is_dir():
        raise DefinitionError(f"There is no file {path}: the folder {parent} does not exist.")
    beside = sorted(p.name for p in parent.glob("*.py"))
    hint = nearest(path.name, beside)
    have = f"In {parent} there are: {', '.join(beside[:8])}." if beside and not hint else ""
    raise DefinitionError(f"There is no file {path}. {hint}{have}".rstrip())


def _import_file(path: Path) -> ModuleType:
    name = path.stem
    if not name.isidentifier():
        raise DefinitionError(
            f"{path}: a module cannot be named {name!r}. Rename the file to letters, digits and _."
        )
    if name in sys.modules and name not in _loaded:
        there = getattr(sys.modules[name], "__file__", None) or "Python itself"
        raise DefinitionError(
            f"{path}: the name {name!r} is taken by a module that is in use ({there}), and "
            "workers would import that one. Rename the file."
        )
    _on_path(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    loader = spec.loader
    assert loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _loaded.add(name)
    try:
        _guarded(str(path), lambda: loader.exec_module(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    _on_path(str(Path.cwd()))
    try:
        found = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not (name + ".").startswith(missing + "."):
            raise _user_error(name, error) from error
        found = False
    except ValueError:
        found = False
    except Exception as error:
        raise _user_error(name, error) from error
    if not found:
        file = f"{name.replace('.', '/')}.py"
        hint = f" Did you mean the file {file}?" if Path(file).is_file() else ""
        raise DefinitionError(
            f"There is no module {name!r} on the path, nor in {Path.cwd()}.{hint}"
        )
    return _guarded(name, lambda: importlib.import_module(name))


def _choose(module: ModuleType, where: str, name: str | None) -> PipelineFunction:
    all_here = {n: v for n, v in vars(module).items() if isinstance(v, PipelineFunction)}
    own = {n: v for n, v in all_here.items() if v.function.__module__ == module.__name__}
    if name is None:
        if len(own) == 1:
            return next(iter(own.values()))
        if not own:
            raise DefinitionError(
                f"{where} has no pipeline. Put @weft.pipeline above the function that is one."
            )
        raise DefinitionError(
            f"{where} has {len(own)} pipelines: {', '.join(own)}. "
            f"Name one: {_short(where)}:{next(iter(own))}"
        )
    if name in all_here:
        return all_here[name]
    if name in vars(module):
        raise DefinitionError(
            f"{name!r} in {where} is not a pipeline. Put @weft.pipeline above its function."
        )
    raise DefinitionError(
        f"{where} has no pipeline {name!r}. It has: {', '.join(own) or 'none'}. "
        f"{nearest(name, own)}".rstrip()
    )


def _guarded(where: str, call: Callable[[], T]) -> T:
    """Run the user's code; what goes wrong in it is their program's, not weft's."""
    try:
        return call()
    except WeftError:
        raise
    except (Exception, SystemExit) as error:
        raise _user_error(where, error) from error


def _user_error(where: str, error: BaseException) -> DefinitionError:
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_OURS)
    ]
    lines = (
        ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    )
    lines += traceback.format_exception_only(error)
    return DefinitionError(
        f"{where} cannot be loaded; nothing was started.\n{''.join(lines)}".rstrip()
    )


def _on_path(folder: str) -> None:
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)


def _short(where: str) -> str:
    try:
        return str(Path(where).relative_to(Path.cwd()))
    except ValueError:
        return where
