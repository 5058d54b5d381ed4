"""The whole mission on sample media, from raw files to a training loop: ``make demo``.

Photographs, clips, sounds, papers and a robot's log go through CPU and model stages on Ray
into versioned Lance datasets and a feature store; a model is trained on a tag; new photographs
arrive and only they are processed. It ends with a page to look at. Each command is the one that
you would type; they run in this one process, so that Ray starts once.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from pathlib import Path

import demo_page
import train as training

from weft.cli.main import cli

HOME = Path("demo")
MEDIA = HOME / "media"
LATE = ("chelsea.webp", "coffee.jpg")
"""Photographs that arrive after the first run."""


def weft(line: str) -> None:
    """Print a command and run it; a failure ends the demo."""
    print(f"\n$ weft {line}", flush=True)
    cli(shlex.split(line), standalone_mode=False)


def run(name: str, source: str, out: str, parameter: str = "out") -> None:
    """``weft run`` of an example."""
    sources = f"{HOME}/{source}"
    weft(f"run examples/{name}.py --set source='{sources}' --set {parameter}={HOME}/{out}")


def all_but_the_late() -> None:
    """The sample media, without some photographs, unless an earlier demo has them already."""
    weft(f"sample {MEDIA}")
    if not (HOME / "photos.lance").exists():
        for name in LATE:
            shutil.move(MEDIA / "photos" / name, HOME / name)


def the_late_arrive() -> None:
    """Put them in their place, as if somebody had just copied them there."""
    for name in LATE:
        if (HOME / name).exists():
            shutil.move(HOME / name, MEDIA / "photos" / name)


def learn() -> list[float]:
    """Train on the tag, and go on from a checkpoint if there is one; the losses."""
    command = "--features descriptor --label sharpness --epochs 8"
    print(f"\n$ python examples/train.py {HOME}/photos.lance {command}", flush=True)
    losses: list[float] = []
    checkpoint = HOME / "model.safetensors"
    checkpoint.unlink(missing_ok=True)
    training.log = lambda steps, loss: losses.append(loss)
    dataset = str(HOME / "photos.lance")
    training.train(
        dataset,
        features="descriptor",
        label="sharpness",
        epochs=8,
        checkpoint=str(checkpoint),
    )
    print(f"{len(losses)} steps, loss {losses[0]:.4f} -> {losses[-1]:.4f}; {checkpoint}")
    return losses


def main() -> int:
    """Run everything and write the page."""
    began = time.monotonic()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    HOME.mkdir(exist_ok=True)
    all_but_the_late()

    run("photos", "media/photos/*", "photos.lance")
    run("clips", "media/clips/*", "frames.lance")
    run("speech", "media/sounds/*", "speech.lance")
    run("papers", "media/papers/*", "papers.lance")
    run("search_papers", "papers.lance", "passages.lance")
    run("robot_log", "media/logs/*", "robot.lance")
    weft(f"search {HOME}/passages.lance --text 'when do two clocks agree?' -k 3")

    print(f"\n# {' and '.join(LATE)} arrive: only they are processed.")
    the_late_arrive()
    run("photos", "media/photos/*", "photos.lance")
    run("photo_features", "photos.lance", "features", parameter="repo")
    losses = learn()

    datasets = ("photos", "frames", "speech", "papers", "passages", "robot")
    page = demo_page.write(HOME, datasets, losses, HOME / "index.html")
    print(
        f"\nThe datasets as a page: {page.resolve()}  ({time.monotonic() - began:.0f} s)\n\n"
        "Next:\n"
        "  source .venv/bin/activate\n"
        f"  weft search {HOME}/photos.lance --like coffee.jpg --column descriptor\n"
        f"  weft errors {HOME}/photos.lance      # the files that failed, and why\n"
        f"  weft report {HOME}/frames.lance      # a run as a page\n"
        f"  weft history {HOME}/photos.lance     # its versions: readers saw whole ones only\n"
        "  weft operators                    # what else there is\n"
        "  weft plan examples/photos.py --set source='/your/photos/**/*.jpg'"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
