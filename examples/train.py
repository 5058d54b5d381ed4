"""Train on a published version of a dataset; killed at any moment, it goes on where it was.

Run it:  python examples/train.py demo/photos.lance --features descriptor --label sharpness

The model learns a number from a vector: here how sharp a photograph is, from its descriptor.
A checkpoint is one file: the tensors of model and optimizer, and where the feed stands as JSON
in its header. It is put in place whole, so a killed run leaves the last one or the one before.
"""

import argparse
import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from weft.connectors import Feed


def train(
    dataset: str,
    *,
    features: str,
    label: str,
    version: str = "latest",
    checkpoint: str = "model.safetensors",
    global_batch: int = 8,
    epochs: int = 5,
    every: int = 10,
) -> torch.nn.Module:
    """Train for `epochs` epochs, with a checkpoint `every` so many steps; prints each loss."""
    feed = Feed(
        dataset,
        version=version,
        columns=[features, label],
        global_batch=global_batch,
        last="wrap",
        epochs=epochs,
    )
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(feed.source.types[features].shape[0], 16),
        torch.nn.ReLU(),
        torch.nn.Linear(16, 1),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    load(checkpoint, model, optimizer, feed)
    for batch in feed.loader():
        loss = (model(batch[features])[:, 0] - batch[label].float()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done = feed.epoch * feed.steps + feed.step
        log(done, loss.item())
        if done % every == 0 or feed.epoch == epochs:
            save(checkpoint, model, optimizer, feed)
    return model


def log(steps: int, loss: float) -> None:
    """One line for a step."""
    print(f"step {steps}: loss {loss:.9f}", flush=True)


def save(path: str, model: torch.nn.Module, optimizer: torch.optim.Optimizer, feed: Feed) -> None:
    """Put a checkpoint in the place of the one before, in one step."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
    temporary = f"{path}.new"
    save_file(tensors, temporary, metadata={"feed": json.dumps(feed.state_dict())})
    os.replace(temporary, path)


def load(path: str, model: torch.nn.Module, optimizer: torch.optim.Optimizer, feed: Feed) -> None:
    """Go on from a checkpoint, if there is one. Another dataset or batch size is refused."""
    if not Path(path).exists():
        return
    with safe_open(path, "pt") as file:
        feed.load_state_dict(json.loads(file.metadata()["feed"]))
        weights, moments = {}, {}
        for name in file.keys():  # noqa: SIM118  it is no dict
            kind, rest = name.split(".", 1)
            if kind == "model":
                weights[rest] = file.get_tensor(name)
            else:
                number, what = rest.split(".")
                moments.setdefault(int(number), {})[what] = file.get_tensor(name)
    model.load_state_dict(weights)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    print(f"Going on from {path}: epoch {feed.epoch}, step {feed.step}.", flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=train.__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--features", required=True, help="a column of vectors")
    parser.add_argument("--label", required=True, help="a column of numbers")
    parser.add_argument("--version", default="latest", help="a tag, such as run-…")
    parser.add_argument("--checkpoint", default="model.safetensors")
    parser.add_argument("--global-batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=5)
    train(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
