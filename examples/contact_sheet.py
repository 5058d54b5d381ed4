"""Draw a dataset of photographs as one picture: what was kept, and what was not and why.

It reads what `examples/photos.py` publishes, with Lance and Pillow alone; weft is asked only
for the numbers of pictures that were dropped.

Run it:  python examples/contact_sheet.py photos.lance contact_sheet.png
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import lance
import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from weft.operators import image

WIDTH, MARGIN, GAP = 2000, 56, 16
ROW_HEIGHT, STRIP_HEIGHT = 260, 150
"""Pictures fill whole rows of about these heights, in pixels."""

CAPTION = 58
BACKGROUND, CARD, TEXT, MUTED = "#14171c", "#22272f", "#f2f4f7", "#98a1ae"
SHARP, BRIGHT, DROPPED, FAILED = "#5ec8b0", "#f0b95a", "#8fa8d8", "#e5776d"


@dataclass
class Tile:
    """A picture of the sheet, with what is written below it."""

    name: str
    picture: Image.Image
    note: str = ""
    sharpness: float = 0.0
    brightness: float = 0.0

    @property
    def aspect(self) -> float:
        """Width over height; kept within what leaves room for a caption."""
        return min(max(self.picture.width / self.picture.height, 0.8), 2.7)


def font(size: int) -> ImageFont.FreeTypeFont:
    """The font that comes with Pillow."""
    return ImageFont.load_default(size=size)


def by_likeness(vectors: np.ndarray) -> list[int]:
    """An order in which neighbours look alike: a short path through the descriptors."""
    distance = 1 - vectors @ vectors.T
    path = [int(distance.sum(axis=1).argmax())]
    while len(path) < len(vectors):
        rest = [i for i in range(len(vectors)) if i not in path]
        path.append(min(rest, key=lambda i: distance[path[-1], i]))

    def length(order: list[int]) -> float:
        return float(sum(distance[a, b] for a, b in pairwise(order)))

    better = True
    while better:  # 2-opt: turn a stretch around while that makes the path shorter
        better = False
        for start in range(len(path) - 1):
            for end in range(start + 2, len(path) + 1):
                other = path[:start] + path[start:end][::-1] + path[end:]
                if length(other) < length(path) - 1e-9:
                    path, better = other, True
    return path


def in_rows(tiles: list[Tile], target: int) -> list[tuple[list[Tile], int]]:
    """Rows that fill the width, with their heights, each as near to `target` as can be."""
    room = WIDTH - 2 * MARGIN

    def height(row: list[Tile]) -> float:
        return (room - GAP * (len(row) - 1)) / sum(t.aspect for t in row)

    best: list[tuple[float, int]] = [(0.0, 0)]  # of the first n tiles: cost, start of last row
    for end in range(1, len(tiles) + 1):
        costs = [
            (best[start][0] + (height(tiles[start:end]) / target - 1) ** 2, start)
            for start in range(max(0, end - 14), end)
        ]
        best.append(min(costs))
    rows: list[tuple[list[Tile], int]] = []
    end = len(tiles)
    while end:
        row = tiles[best[end][1] : end]
        rows.insert(0, (row, round(min(height(row), 1.3 * target))))
        end = best[end][1]
    return rows


class Sheet:
    """A picture that grows downwards."""

    def __init__(self) -> None:
        self.canvas = Image.new("RGB", (WIDTH, 20_000), BACKGROUND)
        self.draw = ImageDraw.Draw(self.canvas)
        self.y = MARGIN

    def line(self, text: str, size: int, colour: str = TEXT, *, bold: bool = False) -> None:
        """A line of text."""
        self.draw.text((MARGIN, self.y), text, colour, font(size), stroke_width=0.5 if bold else 0)
        self.y += round(size * 1.5)

    def rows(self, tiles: list[Tile], target: int) -> None:
        """Pictures with their captions."""
        for row, height in in_rows(tiles, target):
            x = MARGIN
            for tile in row:
                width = round(height * tile.aspect)
                self._picture(tile, (x, self.y, width, height))
                self._caption(tile, x + 2, self.y + height + 8, width)
                x += width + GAP
            self.y += height + CAPTION + GAP

    def heading(self, text: str, colour: str, *notes: tuple[str, str]) -> None:
        """A heading between two parts, with notes of (text, colour)."""
        self.draw.line((MARGIN, self.y, WIDTH - MARGIN, self.y), CARD, 2)
        self.y += 26
        self.draw.rounded_rectangle((MARGIN, self.y + 2, MARGIN + 8, self.y + 30), 4, colour)
        self.draw.text((MARGIN + 22, self.y), text, TEXT, font(26), stroke_width=0.5)
        x = MARGIN + 40 + self.draw.textlength(text, font(26))
        for note, tint in notes:
            self.draw.text((x, self.y + 6), note, tint, font(20))
            x += self.draw.textlength(note, font(20))
        self.y += 56

    def cards(self, tiles: list[Tile]) -> None:
        """Pictures in two columns, with their notes in full beside them."""
        column = (WIDTH - 2 * MARGIN - GAP) // 2
        width, height = 160, 120
        for i, tile in enumerate(tiles):
            x = MARGIN + i % 2 * (column + GAP)
            self.draw.rounded_rectangle((x, self.y, x + column, self.y + height), 8, CARD)
            self._picture(tile, (x, self.y, width, height))
            self.draw.text((x + width + 12, self.y + 14), tile.name, TEXT, font(19))
            for n, line in enumerate(self._wrapped(tile.note, column - width - 36, 16)[:3]):
                self.draw.text((x + width + 12, self.y + 44 + 22 * n), line, MUTED, font(16))
            if i % 2 or tile is tiles[-1]:
                self.y += height + GAP

    def save(self, path: str) -> None:
        """Cut to what was drawn, and write."""
        self.canvas.crop((0, 0, WIDTH, self.y + MARGIN - GAP)).save(path)

    def _picture(self, tile: Tile, box: tuple[int, int, int, int]) -> None:
        x, y, width, height = box
        fill = Image.new("RGB", (width, height), CARD)
        scale = min(width / tile.picture.width, height / tile.picture.height)
        size = (round(tile.picture.width * scale), round(tile.picture.height * scale))
        fitted = tile.picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        fill.paste(fitted, ((width - size[0]) // 2, (height - size[1]) // 2))
        mask = Image.new("L", (width * 2, height * 2))
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, width * 2 - 1, height * 2 - 1), 16, 255)
        self.canvas.paste(fill, (x, y), mask.resize((width, height)))

    def _caption(self, tile: Tile, x: int, y: int, width: int) -> None:
        self.draw.text((x, y), self._short(tile.name, width, 19), TEXT, font(19))
        if tile.note:
            self.draw.text((x, y + 25), self._short(tile.note, width, 16), MUTED, font(16))
            return
        for colour, value, full in (
            (SHARP, tile.sharpness, 1.5),
            (BRIGHT, tile.brightness, 1.0),
        ):
            end = x + 40 * min(value / full, 1.0)
            self.draw.rounded_rectangle((x, y + 32, x + 40, y + 37), 2, CARD)
            self.draw.rounded_rectangle((x, y + 32, max(end, x + 3), y + 37), 2, colour)
            self.draw.text((x + 48, y + 25), f"{value:.2f}", MUTED, font(16))
            x += 104

    def _wrapped(self, text: str, width: int, size: int) -> list[str]:
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if self.draw.textlength(longer, font(size)) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    def _short(self, text: str, width: int, size: int) -> str:
        if self.draw.textlength(text, font(size)) <= width:
            return text
        while text and self.draw.textlength(text + "…", font(size)) > width:
            text = text[:-1]
        return text + "…"


def broken_picture() -> Image.Image:
    """What stands for a file that is no picture."""
    made = Image.new("RGB", (320, 240), CARD)
    draw = ImageDraw.Draw(made)
    draw.rounded_rectangle((110, 70, 210, 170), 12, outline=FAILED, width=5)
    draw.line((135, 95, 185, 145), FAILED, 6)
    draw.line((185, 95, 135, 145), FAILED, 6)
    return made


def dropped_tile(root: str, key: str) -> Tile:
    """A picture that a filter dropped, measured once more: operators are callable."""
    content = Path(root + key).read_bytes()
    try:
        picture = Image.open(io.BytesIO(content))
        sharpness = image.Sharpness()(image.Decode(size=512)(content))
    except UnidentifiedImageError:
        return Tile(key, broken_picture(), f"{len(content)} bytes")
    return Tile(key, picture, f"sharpness {sharpness:.2f}")


def main(dataset: str, out: str) -> None:
    """Draw `dataset`, at the version that `latest` names, into the file `out`."""
    published = lance.dataset(dataset, version="latest")
    # Media columns are blobs, which Lance reads only when it is told to.
    rows = published.to_table(blob_handling="all_binary").to_pylist()
    ledger = lance.dataset(f"{dataset}.weft/ledger.lance", version="latest").to_table()
    errors = lance.dataset(f"{dataset}.weft/errors.lance", version="latest").to_table()

    kept = [
        Tile(
            row["_key"],
            Image.open(io.BytesIO(row["thumbnail"])),
            sharpness=row["sharpness"],
            brightness=row["brightness"],
        )
        for row in rows
    ]
    if kept:
        kept = [kept[i] for i in by_likeness(np.array([row["descriptor"] for row in rows]))]
    root = rows[0]["uri"].removesuffix(rows[0]["_key"]) if rows else ""
    dropped = [
        dropped_tile(root, line["_key"])
        for line in ledger.sort_by("_key").to_pylist()
        if line["outcome"] == "dropped"
    ]
    failed = [
        Tile(line["_key"], broken_picture(), line["message"].partition(": ")[2])
        for line in errors.sort_by("_key").to_pylist()
    ]

    sheet = Sheet()
    sheet.line(f"{Path(dataset).name}, version {published.version}", 44, bold=True)
    sheet.y += 2
    sheet.line(
        f"{ledger.num_rows} files read  =  {len(kept)} kept  +  {len(dropped)} dropped  +  "
        f"{len(failed)} failed",
        24, MUTED,
    )  # fmt: skip
    sheet.y += 26
    sheet.heading(
        "Kept", SHARP,
        ("neighbours look alike; below, ", MUTED), ("sharpness", SHARP),
        (" and ", MUTED), ("brightness", BRIGHT),
    )  # fmt: skip
    sheet.rows(kept, ROW_HEIGHT)
    if dropped:
        why = "by the filters: empty, or not as sharp as the pipeline asks for"
        sheet.heading("Dropped", DROPPED, (why, MUTED))
        sheet.rows(dropped, STRIP_HEIGHT)
    if failed:
        why = "set aside with the reason, and the others went on"
        sheet.heading("Failed", FAILED, (why, MUTED))
        sheet.cards(failed)
    sheet.save(out)


if __name__ == "__main__":
    main(*sys.argv[1:3])
