"""torchaudio with a compiled part that cannot be loaded, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

BROKEN = {
    "OSError": "raise OSError('libc10_cuda.so: cannot open shared object file')",
    "RuntimeError": "raise RuntimeError('compiled with different CUDA versions')",
}

USE = """
import threading
from weft.operators.torchaudio_import import torchaudio

found = []
threads = [threading.Thread(target=lambda: found.append(torchaudio())) for _ in range(4)]
[t.start() for t in threads], [t.join() for t in threads]
assert len(found) == 4 and len(set(map(id, found))) == 1, found
"""


def python(code: str, package: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run code, with the torchaudio of a folder first if there is one."""
    front = "" if package is None else f"import sys; sys.path.insert(0, {str(package)!r})\n"
    command = [sys.executable, "-W", "ignore", "-c", front + textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def package(folder: Path, extension: str, init: str = "") -> Path:
    """A torchaudio of three files whose compiled part does what `extension` says."""
    (folder / "torchaudio" / "_extension").mkdir(parents=True)
    (folder / "torchaudio" / "_extension" / "__init__.py").write_text(extension)
    (folder / "torchaudio" / "functional.py").write_text(
        "from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE, fail_if_no_align\n"
        "@fail_if_no_align\ndef forced_align(): pass\n"
    )
    (folder / "torchaudio" / "__init__.py").write_text(
        f"from . import _extension\nfrom . import functional\n{init}\n"
    )
    return folder


def test_the_installed_one() -> None:
    """Whether or not its compiled part fits, what is used of it works."""
    done = python(
        USE
        + """
        import torch, torchaudio as again
        assert again is found[0]
        assert again.transforms.MelSpectrogram(16000)(torch.zeros(1, 16000)).shape == (1, 128, 81)
        assert again.functional.resample(torch.zeros(1, 441), 44100, 16000).shape == (1, 160)
        """.replace("\n        ", "\n")
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("error", BROKEN)
def test_a_compiled_part_that_does_not_load(tmp_path: Path, error: str) -> None:
    code = """
    try:
        found[0].functional.forced_align()
    except RuntimeError as error:
        print(error)
    assert found[0].functional._IS_TORCHAUDIO_EXT_AVAILABLE is False
    """
    done = python(USE + textwrap.dedent(code), package(tmp_path, BROKEN[error]))
    assert done.returncode == 0, done.stderr
    assert "forced_align needs the compiled part of torchaudio" in done.stdout


def test_one_that_loads_is_kept(tmp_path: Path) -> None:
    works = "_IS_TORCHAUDIO_EXT_AVAILABLE = True\nfail_if_no_align = lambda f: f\nmark = 1\n"
    done = python(USE + "assert found[0]._extension.mark == 1", package(tmp_path, works))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("extension", "init", "said"),
    [
        ("fail_if_no_align = lambda f: f\n_IS_TORCHAUDIO_EXT_AVAILABLE = True",
         "raise OSError('elsewhere')", "OSError: elsewhere"),
        ("import nonexistent_module", "", "No module named 'nonexistent_module'"),
        ("raise KeyError('strange')", "", "KeyError: 'strange'"),
        (BROKEN["OSError"], "raise OSError('elsewhere')", "OSError: elsewhere"),
    ],
)  # fmt: skip
def test_other_errors_are_not_hidden(tmp_path: Path, extension: str, init: str, said: str) -> None:
    code = """
    import sys
    from weft.operators.torchaudio_import import torchaudio
    try:
        torchaudio()
    finally:
        assert "torchaudio._extension" not in sys.modules or "elsewhere" in """
    code += f"{init!r}"
    done = python(code, package(tmp_path, extension, init))
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]


def test_not_installed() -> None:
    code = """
    import sys
    sys.modules["torchaudio"] = None
    from weft.operators.torchaudio_import import torchaudio
    torchaudio()
    """
    done = python(code)
    assert "DefinitionError: torchaudio is not installed" in done.stderr
    assert "pip install 'weft[audio]'" in done.stderr
