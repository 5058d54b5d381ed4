"""Import torchaudio also where its compiled part cannot be loaded.

torchaudio's wheels are built against one build of torch. Beside another, such as torch for CPUs
only, ``import torchaudio`` ends in an error about a missing CUDA library, since its
`torchaudio._extension` loads compiled code before anything else. That code is for forced
alignment, RNN-T and a faster `lfilter`; transforms, functional and the models' feature extraction
are pure PyTorch and do not use it. torchaudio itself runs without it, when it is built without.

So where, and only where, loading that code fails, this module says to torchaudio what such a build
says: there is no compiled part. It puts a stand-in for `torchaudio._extension` into `sys.modules`
and imports again, for the whole process. What needs the compiled part then says so when it is
called; `lfilter` is slow. Every other error is raised as it is.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, NoReturn

from weft.errors import DefinitionError

_EXTENSION = "torchaudio._extension"

_LOCK = threading.Lock()


def torchaudio() -> ModuleType:
    """The module torchaudio; safe to call from several threads.

    Raises:
        DefinitionError: it is not installed.
    """
    with _LOCK:
        try:
            return importlib.import_module("torchaudio")
        except ModuleNotFoundError as error:
            if error.name not in ("torch", "torchaudio"):
                raise
            raise DefinitionError(
                f"{error.name} is not installed. Install it: pip install 'weft[audio]'"
            ) from error
        except (OSError, RuntimeError) as error:
            if not _raised_in(error.__traceback__, _EXTENSION):
                raise
        return _without_extension()


def _without_extension() -> ModuleType:
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchaudio"]:
        del sys.modules[name]  # half imported
    sys.modules[_EXTENSION] = _stand_in()
    try:
        return importlib.import_module("torchaudio")
    except BaseException:
        del sys.modules[_EXTENSION]
        raise


def _stand_in() -> ModuleType:
    """What `torchaudio._extension` is in a build without compiled code."""
    module = ModuleType(_EXTENSION, "No compiled part: it does not fit the installed torch.")
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    module._IS_ALIGN_AVAILABLE = False  # type: ignore[attr-defined]
    module.fail_if_no_align = _refuse  # type: ignore[attr-defined]
    return module


def _refuse(function: Callable[..., Any]) -> Callable[..., NoReturn]:
    def refused(*values: Any, **named: Any) -> NoReturn:
        raise RuntimeError(
            f"{function.__name__} needs the compiled part of torchaudio, which does not fit the "
            "installed torch. Install the torchaudio that was built for it."
        )

    return refused


def _raised_in(traceback: TracebackType | None, module: str) -> bool:
    """Whether code of `module`, or of one inside it, was running."""
    while traceback is not None:
        name = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if name == module or name.startswith(f"{module}."):
            return True
        traceback = traceback.tb_next
    return False
