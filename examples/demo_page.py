"""Draw what the demo made as one page: pictures, sounds, pages and a robot, out of Lance.

It reads the published datasets with Lance alone, and the journals for the numbers of rows.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lance
import numpy as np
from PIL import Image

STYLE = """
:root { color-scheme: light dark; --back: #f6f6f3; --card: #fff; --text: #1d2126;
  --mute: #6a717b; --line: #e2e2dc; --teal: #1f8f7a; --amber: #b7791f; --red: #c0453a;
  --blue: #3b6ea8; }
@media (prefers-color-scheme: dark) { :root { --back: #14171c; --card: #1d2229;
  --text: #eceff3; --mute: #98a1ae; --line: #2c333d; --teal: #5ec8b0; --amber: #f0b95a;
  --red: #e5776d; --blue: #8fb3e6; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui; }
main { max-width: 1180px; margin: auto; padding: 40px 24px }
h1 { font-size: 30px; margin: 0 0 4px }
h2 { font-size: 19px; margin: 44px 0 2px }
p { margin: 0 0 14px; color: var(--mute); max-width: 76ch }
.row { display: flex; flex-wrap: wrap; gap: 12px; margin-bottom: 14px }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  overflow: hidden; }
figure img { display: block; height: 128px; width: auto }
figcaption { padding: 5px 9px; font-size: 12px; color: var(--mute); width: 0; min-width: 100%;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.wide { width: 100% }
.wide img { width: 100% }
.wide figcaption { max-width: none }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; background: var(--card); font-size: 14px;
  border: 1px solid var(--line); }
td, th { padding: 6px 12px; text-align: right; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; white-space: nowrap }
th { color: var(--mute); font-weight: 500 }
td:first-child, th:first-child { text-align: left }
.failed { color: var(--red) }
svg { display: block; width: 100%; height: auto }
svg.bar { height: 12px; margin: 0 0 8px }
svg text { font: 11px system-ui; fill: var(--mute) }
.note { color: var(--red); font-size: 13px; margin: 4px 0 0 }
"""

COLOURS = ("var(--teal)", "var(--amber)", "var(--blue)", "var(--red)")


def write(home: Path, datasets: Sequence[str], losses: Sequence[float], page: Path) -> Path:
    """Write the page; its path."""
    parts = [
        "<h1>weft: the demo</h1><p>Everything below was read back from Lance datasets at the tag "
        "<code>latest</code>. Raw files went in; nothing was lost on the way.</p>",
        _books(home, datasets),
        _photos(home),
        _clips(home),
        _speech(home),
        _papers(home),
        _robot(home),
        _training(losses),
    ]
    body = "\n".join(parts)
    page.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>weft demo</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{STYLE}</style><main>{body}</main></html>"
    )
    return page


def _rows(home: Path, name: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    dataset = lance.dataset(str(home / f"{name}.lance"), version="latest")
    table = dataset.to_table(columns=columns, blob_handling="all_binary")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _books(home: Path, datasets: Sequence[str]) -> str:
    """What became of every row, by the newest run of each dataset."""
    heads = ("dataset", "run of", "read", "kept", "dropped", "failed", "seconds", "version")
    lines = []
    for name in datasets:
        newest = max((home / f"{name}.lance.weft" / "runs").iterdir())
        result = json.loads((newest / "state.json").read_text())["result"]
        dropped = sum(step["dropped"] for step in result["steps"].values())
        since = {k: v for k, v in result["increment"].items() if v}
        read = f"{result['rows']}" + (f" ({since.get('unchanged', 0)} unchanged)" if since else "")
        write = result["writes"][0]
        cells = [name, result["pipeline"], read, write["kept"], dropped, result["failed"]]
        cells += [f"{result['seconds']:.1f}", write["version"]]
        tags = [f"<td>{html.escape(str(c))}</td>" for c in cells]
        if result["failed"]:
            tags[5] = f'<td class="failed">{result["failed"]}</td>'
        lines.append(f"<tr>{''.join(tags)}</tr>")
    head = "".join(f"<th>{h}</th>" for h in heads)
    return f'<h2>Rows</h2><div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _photos(home: Path) -> str:
    rows = _rows(home, "photos")
    vectors = np.array([row["descriptor"] for row in rows])
    order = by_likeness(vectors)
    figures = [
        _figure(rows[i]["thumbnail"], f"{Path(rows[i]['uri']).name} · {rows[i]['sharpness']:.2f}")
        for i in order
    ]
    return (
        "<h2>Photographs</h2><p>The sharp ones, each with its sharpness, in an order in which "
        f'neighbours have like descriptors.</p><div class="row">{"".join(figures)}</div>'
        + _errors(home, "photos")
    )


def by_likeness(vectors: np.ndarray) -> list[int]:
    """An order in which neighbours look alike: a short path through the descriptors."""
    distance = 1 - vectors @ vectors.T
    path = [int(distance.sum(axis=1).argmax())]
    while len(path) < len(vectors):
        rest = [i for i in range(len(vectors)) if i not in path]
        path.append(min(rest, key=lambda i: distance[path[-1], i]))
    return path


def _clips(home: Path) -> str:
    clips: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(home, "frames"):
        clips.setdefault(row["uri"], []).append(row)
    parts = []
    for uri, frames in sorted(clips.items()):
        frames.sort(key=lambda f: f["index"])
        figures = "".join(_figure(f["thumbnail"], f"{f['time_seconds']:.1f} s") for f in frames)
        seconds, shots = frames[0]["duration_seconds"], frames[0]["shots"]
        parts.append(
            f"<p><b>{html.escape(Path(uri).name)}</b>: {seconds:.1f} s at "
            f"{frames[0]['frame_rate']:g} frames/s, {len(shots)} shots</p>"
            f'{_bar(shots, seconds)}<div class="row">{figures}</div>'
        )
    return (
        "<h2>Clips</h2><p>A frame a second, decoded only where one is wanted; the bar shows the "
        f"shots that were found.</p>{''.join(parts)}" + _errors(home, "frames")
    )


def _speech(home: Path) -> str:
    parts = []
    for row in _rows(home, "speech"):
        mel = np.array(row["mel"], np.float32).reshape(-1, 3000)[::-1]
        frames = round(100 * row["duration_seconds"])  # Whisper's mel has 100 frames a second
        mel = mel[:, :frames]
        light = np.uint8(255 * (mel - mel.min()) / (mel.max() - mel.min()))
        picture = Image.fromarray(light).resize((1000, 160))
        name = html.escape(Path(row["uri"]).name)
        caption = f"{name} · {row['loudness_lufs']:.1f} LUFS · speech {row['speech_share']:.0%}"
        parts.append(
            f'<figure class="wide"><img alt="" src="{_url(picture)}">'
            f"{_bar(row['speech'], frames / 100)}<figcaption>{caption}</figcaption></figure>"
        )
    return (
        "<h2>Sounds</h2><p>The recordings with speech, as the log-mel spectrogram that Whisper "
        f'takes; below each, when somebody speaks.</p><div class="row">{"".join(parts)}</div>'
        + _errors(home, "speech")
    )


def _papers(home: Path) -> str:
    rows = sorted(_rows(home, "papers"), key=lambda r: (r["uri"], r["page"]))
    figures = [
        _figure(r["picture"], f"{r['title']}, page {r['page']} · {r['words']} words") for r in rows
    ]
    return (
        "<h2>Papers</h2><p>Every page as text and as a picture. The text is cut into passages and "
        "embedded by all-MiniLM-L6-v2, for <code>weft search demo/passages.lance --text …</code>"
        f'</p><div class="row">{"".join(figures)}</div>' + _errors(home, "papers")
    )


def _robot(home: Path) -> str:
    rows = sorted(_rows(home, "robot"), key=lambda r: r["time_ns"])
    start = rows[0]["time_ns"]
    times = [(r["time_ns"] - start) / 1e9 for r in rows]
    turns = [r["imu_angular_velocity_z"] for r in rows]
    dots = _dots(times, turns)
    figures = []
    for row in rows[:: max(1, len(rows) // 7)]:
        pixels = np.array(row["image"], np.uint8).reshape(224, 224, 3)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG")
        figures.append(_figure(file.getvalue(), f"{(row['time_ns'] - start) / 1e9:.1f} s"))
    return (
        "<h2>Robot</h2><p>Each camera frame with what the motion sensor said then, if it said "
        "anything within 20 ms. The sensor was silent for half a second: those frames were "
        f'dropped before they were decoded.</p><div class="row">{"".join(figures)}</div>{dots}'
    )


def _training(losses: Sequence[float]) -> str:
    return (
        "<h2>Training</h2><p>A small model learns sharpness from the descriptor, fed from the tag "
        f"by a Feed: the loss over {len(losses)} steps.</p>{_dots(range(len(losses)), losses)}"
    )


def _bar(spans: Sequence[dict[str, float]], seconds: float) -> str:
    """Spans of time as a bar of as many colours."""
    places = [
        (1000 * span["start_seconds"] / seconds, 1000 * span["end_seconds"] / seconds)
        for span in spans
    ]
    bars = "".join(
        f'<rect x="{a + 1:.1f}" y="2" width="{b - a - 2:.1f}" height="8" fill="{COLOURS[i % 4]}"/>'
        for i, (a, b) in enumerate(places)
    )
    return f'<svg class="bar" viewBox="0 0 1000 12" preserveAspectRatio="none">{bars}</svg>'


def _dots(xs: Sequence[float], ys: Sequence[float]) -> str:
    """A plot of dots with the ends of its axes."""
    across = np.interp(xs, (min(xs), max(xs)), (50, 985))
    up = np.interp(ys, (min(ys), max(ys)), (125, 12))
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="var(--teal)"/>'
        for x, y in zip(across, up, strict=True)
    )
    marks = (
        f'<text x="2" y="16">{max(ys):.3g}</text><text x="2" y="129">{min(ys):.3g}</text>'
        f'<text x="50" y="148">{min(xs):g}</text>'
        f'<text x="985" y="148" text-anchor="end">{max(xs):g}</text>'
    )
    return f'<figure class="wide"><svg viewBox="0 0 1000 152">{dots}{marks}</svg></figure>'


def _errors(home: Path, name: str) -> str:
    errors = lance.dataset(str(home / f"{name}.lance.weft/errors.lance"), version="latest")
    lines = [
        f"{row['_key']}: {row['message'].split('. ')[0]}." for row in errors.to_table().to_pylist()
    ]
    return "".join(f'<p class="note">{html.escape(line)}</p>' for line in lines)


def _figure(picture: bytes, caption: str) -> str:
    with Image.open(io.BytesIO(picture)) as image:
        small = image.convert("RGB")
    small.thumbnail((480, 256))
    told = html.escape(caption)
    return f'<figure><img alt="{told}" src="{_url(small)}"><figcaption>{told}</figcaption></figure>'


def _url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
