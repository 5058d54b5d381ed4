"""`weft operators` and `weft doctor`."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_the_list_has_every_operator_of_every_family(weft, answer) -> None:
    from weft.operators import image

    names = {o["name"] for o in answer("operators")["operators"]}
    assert {f"image.{name}" for name in image._HOME} <= names
    assert all(o["summary"] for o in answer("operators")["operators"])
    assert "image.Resize" in weft("operators").stdout


def test_one_in_full(weft, answer) -> None:
    found = answer("operators", "image.Decode")
    assert (found["kind"], found["rows"]) == ("Map", "1 -> 1")
    assert found["reads"] == {"content": "Encoded('image')"}
    parameters = {p["name"]: p for p in found["parameters"]}
    assert parameters["mode"]["default"] == "'RGB'"
    assert "max_pixels" in parameters["max_pixels"]["meaning"]
    assert found["example"].startswith(">>> ")
    text = weft("operators", "image.Decode").stdout
    assert "\nreads\n  content  Encoded('image')\n" in text
    assert "  mode: str = 'RGB'\n" in text


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("image.Decde", "Did you mean 'image.Decode'?"),
        ("crop", "Did you mean 'image.Crop'?"),
        ("decode", "Did you mean 'audio.Decode' or 'image.Decode' or 'text.Decode'?"),
        ("xyz", "See `weft operators`."),
    ],
)
def test_an_unknown_one(weft, given: str, near: str) -> None:
    said = weft("operators", given, code=2).stderr
    assert said == f"error: There is no operator {given!r}. {near}\n"


def test_doctor_looks_at_everything(answer) -> None:
    from weft.cli import machine

    found = answer("doctor", code=0 if _sound() else 1)
    names = [c["what"] for c in found["checks"]]
    for name in ("python", "ray", "pillow", "image formats", "CPUs", "memory", "open files"):
        assert name in names
    assert all(c["fix"] for c in found["checks"] if c["level"] != "ok")
    assert len(machine.CHECKS) == 11


def _sound() -> bool:
    from weft.cli import machine

    return all(f.level != "FAIL" for check in machine.CHECKS for f in check())


def test_doctor_fails_on_a_token_that_others_read(
    weft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("0" * 64)
    token.chmod(0o644)
    text = weft("doctor", code=1).stdout
    assert f"FAIL  ray token      {token} has mode 0644: others can read it" in text
    assert f"      fix: chmod 600 {token}, then make a new token\n" in text
    assert "0" * 64 not in text
    token.chmod(0o600)
    assert f"{token} is readable by you alone" in weft("doctor").stdout


def test_doctor_knows_a_containers_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    from weft.cli import machine

    files = {"cpu.max": "50000 100000", "memory.max": str(1 << 30)}
    monkeypatch.setattr(machine, "_cgroup", files.get)
    (cpus,) = machine.cpus()
    (memory,) = machine.memory()
    assert (cpus.level, memory.level) == ("warn", "warn")
    assert "a quota of 0.5 for this container" in cpus.found
    assert memory.found.startswith("1.0 GiB for this container, of ")
    monkeypatch.setattr(machine, "_cgroup", {"cpu.max": "max 100000"}.get)
    assert [f.level for f in machine.cpus()] == ["ok"]


def test_doctor_finds_a_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    from weft.cli import machine

    monkeypatch.setattr(machine, "_PACKAGES", {"no_such_module": "no-such-package"})
    (found,) = machine.packages()
    assert found.level == "FAIL"
    assert found.fix == "pip install --force-reinstall no-such-package"
