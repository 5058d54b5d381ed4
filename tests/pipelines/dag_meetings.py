"""Verbs on rows that meet, as they are drawn into a random graph, by nested loops. See `dags`.

Where weft promises no order of the rows that come in, nothing is drawn whose answer depends on it.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

import weft
from weft.operators import tabular

sys.path.insert(0, str(Path(__file__).parent))

from dag_streams import (
    FAMILY,
    Dag,
    Largest,
    Listed,
    Row,
    Stream,
    Total,
    bad_value,
    equal,
    family_of,
    has_parents,
    hates,
    known,
    only,
    storage_of,
    values_of,
)


def union(dag: Dag, name: str) -> bool:
    streams = [dag.some() for _ in range(dag.chance.choice([2, 2, 3]))]
    kinds = [s.rows.columns for s in streams]
    if sum(len(s.expected) for s in streams) > 120:
        return False
    names = list(dict.fromkeys(c for columns in kinds for c in columns))
    fit = [c for c in names if len({family_of(k[c].storage) for k in kinds if c in k}) == 1]
    fill = dag.chance.random() < 0.5
    wanted = fit if fill else [c for c in fit if all(c in columns for columns in kinds)]
    chosen = [[c for c in columns if c in wanted] for columns in kinds]
    if not all(chosen):
        return False
    sides = [
        s.rows if list(s.rows.columns) == c else s.rows.select(*c)
        for s, c in zip(streams, chosen, strict=True)
    ]
    made = weft.union(*sides, missing="null" if fill else "refuse")
    nothing = dict.fromkeys(wanted)
    expected = [
        {**nothing, **only(row, c)}
        for s, c in zip(streams, chosen, strict=True)
        for row in s.expected
    ]
    dag.add(made, expected, *streams, ordered=False)
    return True


def join(dag: Dag, name: str) -> bool:
    left, right = dag.some(), dag.some()
    pairs = [
        (a, b)
        for a in [*left.keyable, "_key"]
        for b in [*right.keyable, "_key"]
        if family_of(storage_of(left, a)) == family_of(storage_of(right, b))
    ]
    if dag.chance.random() < 0.5:  # keys of the same meaning meet more often
        pairs = [(a, b) for a, b in pairs if a == b or "_key" in (a, b)] or pairs
    on = dag.chance.sample(pairs, min(len(pairs), dag.chance.choice([1, 1, 2])))
    how = dag.chance.choice(["inner", "inner", "left", "left", "semi", "anti"])
    meets = [[r for r in right.expected if equal(row, r, on)] for row in left.expected]
    if sum(map(len, meets)) > 150:
        return False
    double = [values_of(r, [a for a, _ in on]) for r, met in zip(left.expected, meets, strict=True)
              if len(met) > 1]  # fmt: skip
    many = len(set(double)) < len(double) if how in ("inner", "left") else False
    suffix = f"_{name}"
    made = left.rows.join(
        right.rows, left_on=[a for a, _ in on], right_on=[b for _, b in on],
        how=how, suffix=suffix if how in ("inner", "left") else None,
        many=many or dag.chance.random() < 0.2,
    )  # fmt: skip
    brought = [c for c in right.rows.columns if c not in {b for _, b in on}]
    return _joined(dag, left, right, made, how=how, meets=meets, brought=brought, suffix=suffix)


def asof(dag: Dag, name: str) -> bool:
    left, right = dag.some(), dag.some()
    times = [
        (a, b)
        for a in left.columns(pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp)
        for b in right.columns(pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp)
        if storage_of(left, a) == storage_of(right, b)
    ]
    if not times:
        return False
    one, other = dag.chance.choice(times)
    pairs = [(a, a) for a in left.keyable if a in right.keyable and a not in (one, other)
             and family_of(storage_of(left, a)) == family_of(storage_of(right, a))]  # fmt: skip
    on = dag.chance.sample(pairs, min(len(pairs), dag.chance.choice([0, 1, 1])))
    places = [values_of(r, [*(b for _, b in on), other]) for r in right.expected]
    if not right.ordered and len(set(places)) < len(places):
        return False  # which of the equal ones is the last is not promised
    strategy = dag.chance.choice(["backward", "forward", "nearest"])
    how = dag.chance.choice(["inner", "left"])
    within = dag.chance.choice([None, 1, 2])
    moments = pa.types.is_timestamp(storage_of(left, one))
    tolerance = timedelta(seconds=within) if within and moments else within
    found = [
        _nearest(row[one], [r for r in right.expected if equal(row, r, on)], other, strategy,
                 tolerance)
        for row in left.expected
    ]  # fmt: skip
    made = left.rows.join(
        right.rows, on=[a for a, _ in on], how=how, asof=(one, other), strategy=strategy,
        tolerance=tolerance, suffix=f"_{name}",
    )  # fmt: skip
    keys = {b for _, b in on} | ({other} if one == other else set())
    brought = [c for c in right.rows.columns if c not in keys]
    return _joined(dag, left, right, made, how=how, meets=found, brought=brought, suffix=f"_{name}")


def _joined(
    dag: Dag, left: Stream, right: Stream, made: Any, *, how: str, meets: list[list[Row]],
    brought: list[str], suffix: str,
) -> bool:  # fmt: skip
    names = {c: f"{c}{suffix}" if c in left.rows.columns else c for c in brought}
    expected: list[Row] = []
    dropped = 0
    for row, met in zip(left.expected, meets, strict=True):
        if how in ("semi", "anti"):
            rows = [row] if bool(met) == (how == "semi") else []
        else:
            rows = [
                {
                    **row,
                    **{new: r[c] for c, new in names.items()},
                    "_key": f"{row['_key']}*{r['_key']}" if len(met) > 1 else row["_key"],
                }
                for r in met
            ]
            if not met and how == "left":
                rows = [{**row, **dict.fromkeys(names.values())}]
        expected += rows
        dropped += not rows
    dag.add(made, expected, left, right, ordered=False, dropped=dropped)
    return True


def _nearest(time: Any, rows: list[Row], other: str, strategy: str, tolerance: Any) -> list[Row]:
    rows = [r for r in rows if r[other] is not None]
    if time is None:
        return []
    before = [r for r in rows if r[other] <= time]
    after = [r for r in rows if r[other] >= time]
    last = max(before, key=lambda r: r[other])[other] if before else None
    first = min(after, key=lambda r: r[other])[other] if after else None
    last_row = [r for r in before if r[other] == last][-1:]
    first_row = [r for r in after if r[other] == first][:1]
    found = {"backward": last_row, "forward": first_row}.get(strategy)
    if found is None:
        nearer = last_row and first_row and first - time < time - last
        found = first_row if nearer or not last_row else last_row
    return [r for r in found if tolerance is None or abs(r[other] - time) <= tolerance]


Groups = dict[tuple[Any, ...], list[Row]]


def _groups(stream: Stream, by: Sequence[str]) -> Groups:
    found: Groups = {}
    for row in stream.expected:
        found.setdefault(values_of(row, by), []).append(row)
    return found


def _key_of(values: tuple[Any, ...], by: Sequence[str]) -> str:
    """The key of a group's row."""
    texts = [v.isoformat(timespec="microseconds") if isinstance(v, datetime) else v for v in values]
    if list(by) == ["_parent"] and texts[0] is not None:
        return str(texts[0])
    if len(texts) == 1 and texts[0] is not None and not str(texts[0]).startswith("["):
        return str(texts[0]).lower() if isinstance(texts[0], bool) else str(texts[0])
    return json.dumps(texts, separators=(",", ":"))


def _group_row(key: tuple[Any, ...], by: Sequence[str], rows: list[Row], *, child: bool) -> Row:
    """What a group's row has apart from what is made of the group.

    `child`: whether rows that children were brought back to may be children themselves.
    """
    name = _key_of(key, by)
    own = {**dict.fromkeys(FAMILY), "_key": name}
    members = sorted(f"{len(r['_key'].encode())}:{r['_key']}{r['_source']}\n" for r in rows)
    own["_source"] = hashlib.blake2b("".join(members).encode(), digest_size=16).hexdigest()
    if list(by) == ["_parent"]:
        if key[0] is not None:
            own["_source"] = rows[0]["_source"]
        if child and (place := re.fullmatch(r"(.*)#(\d{1,9})", name, re.DOTALL)):
            own |= {"_parent": place[1], "_index": int(place[2]), "_count": rows[0].get("_above")}
        return own
    return own | {c: v for c, v in zip(by, key, strict=True) if not c.startswith("_")}


def _by(dag: Dag, stream: Stream) -> list[str]:
    if has_parents(stream) and dag.chance.random() < 0.7:
        return ["_parent"]
    fields = [*stream.keyable, "_key"]
    return dag.chance.sample(fields, min(len(fields), dag.chance.choice([0, 1, 1, 2, 2])))


def aggregated(dag: Dag, name: str) -> bool:
    stream = dag.children()
    by = _by(dag, stream)
    x = dag.chance.choice([*stream.numbers, None])
    made: dict[str, tuple[pl.Expr, Callable[[list[Any]], Any]]] = {
        "n": (pl.len(), len),
        "keys": (pl.col("_key").sort(), lambda rows: sorted(r["_key"] for r in rows)),
    }
    if x is not None:
        made |= {
            "sum": (pl.col(x).sum(), lambda rows: sum(r[x] for r in rows if r[x] is not None)),
            "top": (pl.col(x).max(), lambda rows: max(known(rows, x), default=None)),
            "many": (pl.col(x).n_unique(), lambda rows: len({r[x] for r in rows})),
        }
    if stream.ordered and x is not None:
        made |= {
            "first": (pl.col(x).first(), lambda rows: rows[0][x]),
            "all": (pl.col(x), lambda rows: [r[x] for r in rows]),
        }
    if "s" in stream.rows.columns and dag.chance.random() < 0.3:  # fails on what is no number
        made["fussy"] = (
            pl.col("s").cast(pl.Int64).sum(),
            lambda rows: sum(int(r["s"]) for r in rows if r["s"] is not None),
        )
    chosen = dag.chance.sample(sorted(made), dag.chance.randint(1, len(made)))
    rows = stream.rows.group(*by, **{f"{name}{a}": made[a][0] for a in chosen})
    return _per_group(
        dag, stream, by, rows, lambda group: {f"{name}{a}": made[a][1](group) for a in chosen}
    )


def grouped(dag: Dag, name: str) -> bool:
    stream = dag.children()
    wide = [c for c in stream.numbers if stream.rows.columns[c].storage == pa.int64()]
    if not wide:
        return False
    by, x, bad = _by(dag, stream), dag.chance.choice(wide), bad_value(dag)
    kind = dag.chance.choice(["total", "listed", "pick", "top"])
    if kind == "total":

        def total(group: list[Row]) -> Row | None:
            values = known(group, x)
            return {name: hates(sum(values), bad)} if values else None

        rows = stream.rows.group(*by, operator=Total(bad), x=x, total=name)
        return _per_group(dag, stream, by, rows, total)
    if kind == "listed":
        if not stream.ordered:
            return False
        rows = stream.rows.group(*by, operator=Listed(), x=x, text=name, rows=f"{name}rows")
        return _per_group(
            dag, stream, by, rows,
            lambda group: {name: json.dumps([r[x] for r in group]), f"{name}rows": len(group)},
        )  # fmt: skip
    return _picked(dag, stream, by, x, bad if kind == "pick" else None)


def _picked(dag: Dag, stream: Stream, by: list[str], x: str, bad: int | None) -> bool:
    kept: list[int] = []
    failed = 0
    for group in _groups(stream, by).values():
        values = known(group, x)
        if bad is None:
            if not stream.ordered:
                return False  # which of the equal ones is kept is not promised
            best = sorted(group, key=lambda r: (r[x] is None, -(r[x] or 0)))
            kept += [id(r) for r in best[:2]]
        elif values and max(values) % 7 == bad:
            failed += len(values)
        else:
            kept += [id(r) for r in group if values and r[x] == max(values)]
    if bad is None:
        rows = stream.rows.group(*by, operator=tabular.Top(2), value=x)
    else:
        rows = stream.rows.group(*by, operator=Largest(bad), x=x)
    expected = [r for r in stream.expected if id(r) in set(kept)]
    dropped = len(stream.expected) - len(expected) - failed
    dag.add(rows, expected, stream, ordered=False, dropped=dropped, failed=failed)
    return True


def _per_group(
    dag: Dag, stream: Stream, by: Sequence[str], rows: Any,
    answer: Callable[[list[Row]], Row | None],
) -> bool:  # fmt: skip
    expected: list[Row] = []
    dropped = failed = 0
    child = rows._recorder.depth(rows._node) > 0
    for key, group in _groups(stream, by).items():
        try:
            made = answer(group)
        except ValueError:
            failed += len(group)
            continue
        if made is None:
            dropped += len(group)
        else:
            expected.append({**_group_row(key, by, group, child=child), **made})
    dag.add(rows, expected, stream, ordered=False, dropped=dropped, failed=failed)
    return True


def collected(dag: Dag, name: str) -> bool:
    found = [s for s in dag.streams if has_parents(s) and "n" in s.rows.columns]
    if not found:
        return False
    stream = dag.chance.choice(found)
    if any(r["_parent"] is None for r in stream.expected) and not stream.ordered:
        return False
    rows = stream.rows.apply(tabular.Collect("n"))

    def lists(group: list[Row]) -> Row:
        group = sorted(group, key=lambda r: (r["_index"] is not None, r["_index"] or 0))
        return {"n": [r["n"] for r in group], "count": len(group)}

    return _per_group(dag, stream, ["_parent"], rows, lists)


def ordered(dag: Dag, name: str) -> bool:
    stream = dag.some()
    limit = dag.chance.choice([None, 1, 3, 8])
    fields = [*stream.keyable, *stream.columns(pa.types.is_floating), "_key"]
    by = dag.chance.sample(fields, min(len(fields), dag.chance.choice([0, 1, 1, 2])))
    down = dag.chance.random() < 0.5
    if not by and (limit is None or not stream.ordered):
        return False
    expected = stream.expected
    for column in reversed(by):
        there = [r for r in expected if r[column] is not None]
        there.sort(key=lambda r: r[column], reverse=down)
        expected = there + [r for r in expected if r[column] is None]
    if limit is not None and limit < len(expected) and not stream.ordered:
        places = [values_of(r, by) for r in expected]
        if places[limit - 1] == places[limit]:
            return False  # which of the equal ones is kept is not promised
    operator = tabular.Sort(*by, descending=down, limit=limit) if by else tabular.Limit(limit or 1)
    rows = stream.rows.apply(operator)
    dag.add(
        rows, expected[:limit], stream, ordered=stream.ordered,
        sorted_by=() if stream.ordered else tuple(by),
    )  # fmt: skip
    del dag.dropped[rows._node.id]  # a part of them was dropped before the phase ended
    return True
