"""What `benchmarks.models` runs in processes of its own: a device of declared rate, and a model.

`FakeDevice` holds a worker of a pool and lets time pass as a device would that takes so many rows
a second, so that how well it is fed can be told without one. It is fed by real work: photographs,
decoded to 224 x 224. It notes its own working times, which weft's account is compared with.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import weft
from benchmarks.common import say
from weft.operators import image as ops
from weft.pipelines.operator import BatchView

SIDE = 224
ENDLESS = 1e9
"""Rows a second of a device that is never waited for."""

KEPT_UP, OUTRUN = 0.4, 4.0
"""Declared rates, as shares of what the feeders were measured to deliver."""

_WARM_UPS = 2


@dataclass(frozen=True)
class FakeDevice(weft.Map):
    """Take `rows_per_second`. Each batch leaves a line in `log`: when it began, when it ended."""

    rows_per_second: float
    log: str

    version = "1"
    reads = weft.fields(image=weft.Image(SIDE, SIDE))
    writes = weft.fields(value=weft.Float32())
    resources = weft.Resources(workers=1, batch_rows=64)

    def map(self, batch: BatchView, loaded: Any) -> dict[str, Any]:
        """The first value of each image, after as long as a device would take."""
        began = time.time()
        values = np.asarray(batch["image"])[:, 0, 0, 0].astype(np.float32)
        time.sleep(max(0.0, began + len(values) / self.rows_per_second - time.time()))
        with Path(self.log).open("a") as log:
            log.write(json.dumps([began, time.time()]) + "\n")
        return {"value": values}


@weft.pipeline
def feed(source: str, out: str, rate: float, log: str) -> Any:
    """Decode photographs for a device."""
    from weft.connectors import Files, Lance

    rows = weft.read(Files(source)).apply(ops.Decode(SIDE, fit="fill"))
    return rows.apply(FakeDevice(rate, log)).select("value").write(Lance(out))


def device(engine: str, warm: str, folder: str, out: str) -> None:
    """Measure the feeders, then a device that they keep up with and one that they do not."""
    for number in range(_WARM_UPS):
        _fed(engine, warm, f"{out}/warm-{number}", ENDLESS)
    say("ready")
    feeders = _fed(engine, folder, f"{out}/feeders", ENDLESS)["rows_per_second"]
    found = {
        name: _fed(engine, folder, f"{out}/{name}", share * feeders)
        for name, share in (("kept_up", KEPT_UP), ("outrun", OUTRUN))
    }
    say("done", feeders_rows_per_second=feeders, **found)


def _fed(engine: str, folder: str, out: str, rate: float) -> dict[str, Any]:
    """One run: how busy the device was by its own notes and by weft's, and the side named."""
    Path(out).mkdir(parents=True)
    dataset, log = f"{out}/rows.lance", f"{out}/log"
    result = feed(source=f"{folder}/*.jpg", out=dataset, rate=rate, log=log).run(engine=engine)
    spells = sorted(json.loads(line) for line in Path(log).read_text().splitlines())
    span = spells[-1][1] - spells[0][0]
    gaps = [later[0] - earlier[1] for earlier, later in itertools.pairwise(spells)]
    return {
        "declared_rows_per_second": rate,
        "rows_per_second": result.rows / result.seconds,
        "busy_by_itself": sum(end - began for began, end in spells) / span,
        "busy_by_weft": next(use.busy for use in result.stages if use.pooled),
        "longest_gap_seconds": max(gaps, default=0.0),
        "weft_show": _slow_side(dataset),
    }


def _slow_side(dataset: str) -> str:
    """What ``weft show`` says of it."""
    shown = subprocess.run(
        [sys.executable, "-c", "from weft.cli.main import main; main()", "show", dataset],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = shown.stdout.splitlines()
    return next(line.removeprefix("slow side").strip() for line in lines if "slow side  " in line)


@dataclass(frozen=True)
class Pixels(weft.Map):
    """Images for the numbers of rows: noise, at the cost of a copy."""

    version = "1"
    reads = weft.fields(n=weft.Int64())
    writes = weft.fields(image=weft.Image(SIDE, SIDE))

    def setup(self, device: str) -> np.ndarray:
        """A few images, which repeat."""
        return np.random.default_rng(0).integers(0, 256, (64, SIDE, SIDE, 3), np.uint8)

    def map(self, batch: BatchView, loaded: np.ndarray) -> dict[str, Any]:
        """Row n has image n modulo 64."""
        return {"image": loaded[np.asarray(batch["n"]) % len(loaded)]}


@weft.pipeline
def embed(rows: int, model: str, dtype: str, out: str) -> Any:
    """Embed images that need no decoding, so that only the model can be slow."""
    from weft.connectors import Arrow, Lance

    images = weft.read(Arrow({"n": list(range(rows))})).apply(Pixels())
    embedded = images.apply(ops.Embed(model, dtype=dtype))
    return embedded.select("n", "embedding").write(Lance(out))


def make_clip(folder: Path, *, large: bool) -> None:
    """A CLIP model with random weights: ViT-B/32, or a twentieth of it."""
    import torch

    from weft.operators.model import transformers

    hub = transformers()
    torch.manual_seed(0)
    size = {} if large else {
        "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6,
        "num_attention_heads": 4,
    }  # fmt: skip
    words = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 100}
    vision = size | {"image_size": SIDE, "patch_size": 32}
    config = hub.CLIPConfig(text_config=words, vision_config=vision, projection_dim=512)
    hub.CLIPModel(config).save_pretrained(folder)
    edge = {"height": SIDE, "width": SIDE}
    hub.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=edge).save_pretrained(folder)


def stage(engine: str, device: str, rows: int, rounds: int, out: str) -> None:
    """The model alone and in a pipeline, in turns."""
    model = Path(out, "clip")
    make_clip(model, large=device == "cuda")
    dtype = "bfloat16" if device == "cuda" else "float32"
    bare = _Bare(str(model), dtype, device)
    bare.rate(rows)
    _embedded(engine, rows, str(model), dtype, f"{out}/warm.lance")
    difference = _difference(f"{out}/warm.lance", bare)
    say("ready")
    alone, staged, whole, by_cpu = [], [], [], []
    for number in range(rounds):
        cpu = time.process_time()
        alone.append(bare.rate(rows))
        cpu_alone = time.process_time() - cpu
        result = _embedded(engine, rows, str(model), dtype, f"{out}/{number}.lance")
        by_cpu.append(cpu_alone / (time.process_time() - cpu - cpu_alone))
        use = next(use for use in result.stages if "embed" in use.steps)
        staged.append(rows * use.workers / use.seconds)
        whole.append(rows / result.seconds)
    shares = [ours / theirs for ours, theirs in zip(staged, alone, strict=True)]
    say(
        "done",
        model_only_images_per_second=statistics.median(alone),
        stage_images_per_second=statistics.median(staged),
        run_images_per_second=statistics.median(whole),
        ratio=statistics.median(shares),
        ratio_range=[min(shares), max(shares)],
        # All of the run, loading and feeding too; on Ray and on GPUs the work is elsewhere.
        run_ratio_by_cpu=statistics.median(by_cpu)
        if (engine, device) == ("local", "cpu")
        else None,
        largest_difference=difference,
        parameters=bare.parameters,
        batch_rows=bare.rows,
        dtype=dtype,
    )


class _Bare:
    """The model by itself, on tensors that are on the device and normalized already."""

    def __init__(self, model: str, dtype: str, device: str) -> None:
        import torch

        operator = ops.Embed(model, dtype=dtype)
        self.device = device
        self.tower = operator.setup("cuda:0" if device == "cuda" else "cpu")
        self.rows = self.tower.rows
        self.parameters = sum(p.numel() for p in self.tower.model.vision_model.parameters())
        pixels = Pixels().setup("cpu")
        pixels = np.concatenate([pixels] * -(-self.rows // len(pixels)))[: self.rows]
        with torch.inference_mode():
            ready = torch.from_numpy(pixels).to(self.tower.normalize.mean.device)
            self.values = self.tower.normalize(ready)

    def vectors(self) -> Any:
        """Of one batch."""
        import torch

        with torch.inference_mode():
            found = self.tower.model.get_image_features(pixel_values=self.values).pooler_output
            return torch.nn.functional.normalize(found.float(), dim=1)

    def rate(self, rows: int) -> float:
        """Images a second over so many images."""
        import torch

        began, count = time.perf_counter(), -(-rows // self.rows)
        for _ in range(count):
            self.vectors()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return count * self.rows / (time.perf_counter() - began)


def _embedded(engine: str, rows: int, model: str, dtype: str, out: str) -> Any:
    return embed(rows=rows, model=model, dtype=dtype, out=out).run(engine=engine)


def _difference(out: str, bare: _Bare) -> float:
    """How far the first vectors of the pipeline are from those of the model alone."""
    import lance

    expected = bare.vectors().cpu().numpy()
    stored = lance.dataset(out).to_table().sort_by("n").slice(0, len(expected))
    given = np.array(stored["embedding"].to_pylist(), np.float32)
    return float(np.abs(expected[: len(given)] - given).max())


def checked(said: Mapping[str, Any], limit: float) -> None:
    """Refuse a measurement whose outputs were not equal."""
    if not said["largest_difference"] <= limit:
        raise SystemExit(
            f"the pipeline's vectors differ from the model's by {said['largest_difference']}, more "
            f"than {limit}"
        )
