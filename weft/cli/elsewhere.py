"""A pipeline that will run on other machines: refused here if it would mean something else there.

Relative paths begin at the folder where a process stands, and a job stands in another: what it
wrote would go with its folder. And the command line of a job is for everybody to read who sees
the cluster's dashboard.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from weft.cli.target import load
from weft.errors import DefinitionError, redact
from weft.pipelines.dsl import PipelineFunction
from weft.pipelines.graph import Node, Read, Write

if TYPE_CHECKING:
    from weft.pipelines.dsl import Pipeline


def load_for_cluster(target: str, settings: Mapping[str, str]) -> tuple[Pipeline, str]:
    """The pipeline that `target` names, with these parameters; and the target written out.

    Raises:
        DefinitionError: as `weft.cli.target.load`; a path is relative; a value looks like a
            credential.
    """
    _refuse_secrets(settings)
    pipeline, full = load(target, settings)
    _refuse_relative(pipeline)
    return pipeline, full


def _refuse_secrets(settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        text = f"{name}={value}"
        if redact(text, limit=len(text)) != text:
            raise DefinitionError(
                f"--set {redact(text)}: this looks like a credential, and everybody who sees the "
                "cluster can read the command line of a job. Put it into the environment of the "
                "cluster's nodes, as from a Secret, and read it there."
            )


def _refuse_relative(pipeline: Pipeline) -> None:
    """Make the pipeline in another folder too; what is different there is relative."""
    function = next(
        value
        for value in vars(sys.modules[pipeline.module]).values()
        if isinstance(value, PipelineFunction) and value.name == pipeline.name
    )
    with contextlib.chdir("/"):
        try:
            there = function(**pipeline.parameters)
        except OSError as error:
            raise DefinitionError(
                f"Pipeline {function.name!r} opens {error.filename!r} while it is made, and that "
                "is relative to the folder where it is started; a cluster starts it in another. "
                "Begin at the pipeline's own file: Path(__file__).with_name(…)."
            ) from error
    for mine, other in zip(pipeline.graph.nodes, there.graph.nodes, strict=True):
        if _place(mine) != _place(other):
            raise DefinitionError(
                f"{mine.site}: the path of {mine.action} is relative to {Path.cwd()}, where the "
                "cluster's machines do not stand. Give an absolute path that is the same on all "
                "of them, such as a mounted volume's: --set NAME=/data/…"
            )


def _place(node: Node) -> object:
    if isinstance(node.action, Write):
        return node.action.sink.identity()
    return node.action.source.identity() if isinstance(node.action, Read) else None
