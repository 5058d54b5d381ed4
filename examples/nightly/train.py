"""Learn the labels from the descriptors, and go on learning when there is a new version.

Run it:  python train.py        as often as you like: with nothing new it does nothing

A version of the feature table is trained on for some epochs, in an order that is a function of
the seed. A position in one version means nothing in another, and `Feed` refuses it. So what a
new version means is decided here:

* a version that was begun is finished first, from the very step of the checkpoint, though
  `latest` has moved on meanwhile. Its tag keeps it readable;
* then the newest version is begun at epoch 0. Weights and the optimizer's moments are kept;
  versions that came and went in between are left out.

So the weights are a function of the versions that were trained on, however often it was killed.
"""

import os
from pathlib import Path
from typing import Any

import polars as pl
import torch

from weft.connectors import Feed

TABLE, CHECKPOINT = "features/photos.lance", "model.pt"
EPOCHS, GLOBAL_BATCH = 10, 4

LABELS = ("person", "space", "thing")
"""What the model tells apart. Photographs of other labels are left out."""


def feed_of(version: int | str) -> Feed:
    """The rows of a version, in the same order each time."""
    return Feed(
        TABLE,
        version=version,
        columns=["descriptor", "label"],
        where=pl.col("label").is_in(LABELS),
        global_batch=GLOBAL_BATCH,
        last="wrap",
        epochs=EPOCHS,
    )


class Training:
    """A model, its optimizer and what they have learned from: what a checkpoint holds.

    `history` has an entry for each version: its number, its rows, the steps that were made and
    the loss of the first and of the newest one.
    """

    def __init__(self, dim: int) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(dim, 32), torch.nn.ReLU(), torch.nn.Linear(32, len(LABELS))
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.history: list[dict[str, Any]] = []

    def load(self) -> dict[str, Any] | None:
        """Take over the checkpoint; where its feed stood, if there is one."""
        if not Path(CHECKPOINT).exists():
            return None
        saved = torch.load(CHECKPOINT, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.history = saved["history"]
        return saved["feed"]

    def save(self, feed: Feed) -> None:
        """Put a checkpoint in the place of the one before, in one step."""
        saved = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        saved |= {"history": self.history, "feed": feed.state_dict()}
        torch.save(saved, f"{CHECKPOINT}.new")
        os.replace(f"{CHECKPOINT}.new", CHECKPOINT)

    def go(self, feed: Feed) -> None:
        """Train from where `feed` stands to the end of its last epoch."""
        for batch in feed.loader():
            truth = torch.tensor([LABELS.index(label) for label in batch["label"]])
            loss = torch.nn.functional.cross_entropy(self.model(batch["descriptor"]), truth)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.note(feed, loss.item())
            self.save(feed)

    def note(self, feed: Feed, loss: float) -> None:
        """Write a step into the history, and a line for the end of each epoch."""
        if not self.history or self.history[-1]["version"] != feed.version:
            begun = {"version": feed.version, "rows": feed.rows, "steps": 0, "first_loss": loss}
            self.history.append(begun)
        self.history[-1] |= {"steps": self.history[-1]["steps"] + 1, "loss": loss}
        if feed.step == 0:
            print(f"version {feed.version}, epoch {feed.epoch}: loss {loss:.4f}", flush=True)


def main() -> None:
    """Finish the version that was begun, then train on the newest one."""
    newest = feed_of("latest")
    training = Training(dim=newest.source.types["descriptor"].shape[0])
    state = training.load()
    if state is not None:
        begun = feed_of(state["version"])
        begun.load_state_dict(state)
        if begun.epoch < EPOCHS:
            print(f"Version {begun.version}: from epoch {begun.epoch}, step {begun.step}.")
        training.go(begun)
    if state is None or state["version"] != newest.version:
        training.go(newest)
    print(f"Version {newest.version} is learned.")


if __name__ == "__main__":
    main()
