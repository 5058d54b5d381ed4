"""Hostile files, made of good ones by a seed.

``make(seed, …)`` gives every file by its path: ``<family>/<class>/<what was done>``. Families are
the folders that a pipeline reads; the classes:

* ``truncate``, ``flip``, ``splice``: cut off, bits and bytes changed, two files in one; where,
  the seed decides, so other seeds find other things;
* ``lie``: a header says what is not so (`lies`);
* ``bomb``: little that asks for much (`bombs`);
* ``reference``: names other files and hosts (`references`);
* ``hollow``: a container with nothing in it (`hollow`).
"""

from __future__ import annotations

import random
from pathlib import Path

from . import bombs, good, hollow, lies, references

CLASSES = ("truncate", "flip", "splice", "lie", "bomb", "reference", "hollow")
FAMILIES = ("images", "media", "papers", "logs")

_HEAD = 512
"""Bytes of a file that count as its header."""


def make(seed: int, folder: Path, port: int) -> dict[str, bytes]:
    """All hostile files; those that name others name canaries in `folder` and `port`."""
    chance = random.Random(seed)
    kinds = good.files()
    found: dict[str, bytes] = {}
    for family, files in kinds.items():
        for damage, damaged in (("truncate", truncate), ("flip", flip), ("splice", splice)):
            made = damaged(files, chance).items()
            found |= {f"{family}/{damage}/{what}": content for what, content in made}
    found |= lies.files(kinds) | bombs.files(kinds) | hollow.files(kinds)
    return found | references.files(kinds, folder, port)


def truncate(files: good.Files, chance: random.Random) -> good.Files:
    """Cut off in the header, in the middle and just before the end."""
    found = {}
    for name, content in files.items():
        for at in (
            chance.randrange(1, _HEAD),
            chance.randrange(_HEAD, len(content)),
            len(content) - chance.randrange(1, 16),
        ):
            found[f"{name}.truncate-{at}"] = content[:at]
    return found


def flip(files: good.Files, chance: random.Random) -> good.Files:
    """A bit of the header; some bytes of the header; some bytes anywhere."""
    found = {}
    for number, (name, content) in enumerate(files.items()):
        bit = bytearray(content)
        bit[chance.randrange(_HEAD)] ^= 1 << chance.randrange(8)
        found[f"{name}.flip-{3 * number}-bit"] = bytes(bit)
        for places, kind in ((_HEAD, "head"), (len(content), "body")):
            changed = bytearray(content)
            for _ in range(chance.choice([2, 8, 32])):
                changed[chance.randrange(places)] = chance.randrange(256)
            found[f"{name}.flip-{3 * number + 1 + (kind == 'body')}-{kind}"] = bytes(changed)
    return found


def splice(files: good.Files, chance: random.Random) -> good.Files:
    """The beginning of one file and the end of another; a file with its own middle twice."""
    found = {}
    for name, content in files.items():
        other = chance.choice(sorted(set(files) - {name}))
        at, start = chance.randrange(len(content)), chance.randrange(len(files[other]))
        found[f"{name}.splice-{at}-{other}-{start}"] = content[:at] + files[other][start:]
        begin, end = sorted(chance.sample(range(len(content)), 2))
        found[f"{name}.splice-{end}-again-{begin}"] = content[:end] + content[begin:]
    return found
