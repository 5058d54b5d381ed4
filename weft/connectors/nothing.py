"""What to say of a path that stands for no file: what is there, and what to do."""

from __future__ import annotations

import collections
import fnmatch
import os
import re

from weft.errors import nearest

_ENOUGH = 10_000
"""Files looked at to say what is there: 0.1 s, and more would tell nobody more."""


def explain(source: str, text: str, root: str, last: str) -> str:
    """Why `text`, looked for below `root` with files named like `last`, found nothing."""
    if not os.path.isdir(root):
        return _no_folder(source, text, root)
    if not re.search(r"[*?\[]", text) and not os.path.lexists(text):
        return f"{source}: there is no file or folder {text}. {_beside(root, last)}"
    if os.path.lexists(text) and not os.path.isdir(text):
        return f"{source}: {text} is neither a file nor a folder. Give one of these."
    asked = f"no file matches {text}" if text != root else f"the folder {text} has no files"
    asked += "" if text != root or last == "*" else f" named {last}"
    return f"{source}: {asked}. {_there(root, text, last)}"


def _no_folder(source: str, text: str, root: str) -> str:
    exists = root
    while not os.path.lexists(exists):
        exists, missing = os.path.split(exists)
    if not os.path.isdir(exists):
        return f"{source}: no file matches {text}: {exists} is a file, not a folder."
    folder = os.path.join(exists, missing)
    return f"{source}: no file matches {text}: the folder {folder} does not exist. " + _beside(
        exists, missing
    )


def _beside(folder: str, missing: str) -> str:
    names = sorted(name for name in _names(folder) if not name.startswith("."))
    if not names:
        return f"The folder {folder} is empty."
    near = nearest(missing, names)
    if near:
        return f"{near} It is in {folder}."
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"In {folder} there are: {', '.join(names[:8])}{more}."


def _there(root: str, text: str, last: str) -> str:
    """What a folder that exists holds, by extension, and which pattern would find it."""
    counts: collections.Counter[str] = collections.Counter()
    hidden = deeper = other_case = 0
    for path, folders, files in os.walk(root):
        hidden += sum(name.startswith(".") for name in folders + files)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                counts[os.path.splitext(name)[1] or "no extension"] += 1
                deeper += path != root and fnmatch.fnmatchcase(name, last)
                other_case += fnmatch.fnmatchcase(name.lower(), last.lower())
        if counts.total() >= _ENOUGH:
            break
    skipped = f" (hidden and skipped: {hidden})" if hidden else ""
    if not counts:
        return f"The folder {root} exists and has no files{skipped}."
    least = "at least " if counts.total() >= _ENOUGH else ""
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]
    shown = ", ".join(f"{count} {kind}" for kind, count in most)
    many = f"{least}{counts.total()} file{'s' if counts.total() > 1 else ''}{skipped}"
    there = f"The folder {root} exists and has {many}: {shown}."
    if "{" in text:
        return f"{there} Braces are not expanded: give a list of patterns instead."
    if deeper and "**" not in text:
        return f"{there} {deeper} of them match in folders below: {os.path.join(root, '**', last)}"
    if other_case:
        return f"{there} {other_case} of them match but for upper and lower case."
    return f"{there} Ask for one of these, or check the folder."


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
