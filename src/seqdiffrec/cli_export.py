"""The command `export`."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from seqdiffrec import show
from seqdiffrec.cli_options import AsJson, Run
from seqdiffrec.inference import export_onnx, load

export_app = typer.Typer()


@export_app.command()
def export(
    run: Run,
    onnx: Annotated[Path, typer.Option(help="The file to write; it must not exist.")],
    k: Annotated[int, typer.Option("-k", help="Length of the lists.")] = 10,
    keep_viewed: Annotated[bool, typer.Option(help="Recommend also what the history has.")] = False,
    int8: Annotated[bool, typer.Option(help="Weights as 8-bit numbers: smaller, and no longer the same.")] = False,
    as_json: AsJson = False,
) -> None:
    """A model as an ONNX file, for programs without torch. Example: seqdiffrec export runs/mine --onnx mine.onnx"""
    recommender = load(run)
    with show.progress("checking") as progress:
        found = export_onnx(recommender, onnx, k, filter_viewed=not keep_viewed, int8=int8, progress=progress)
    if as_json:
        print(json.dumps({"run": str(run), "onnx": str(onnx), **found}))
    else:
        print(
            f"{onnx}: {found['bytes'] / 1e6:,.1f} MB, the first {found['k']}; on {found['histories']:,} histories "
            f"{found['overlap']:.2%} of the items are torch's, the largest difference of a probability is "
            f"{found['largest_difference']:.1e}"
        )
    other = onnx.with_name(f"{onnx.stem}-int8.onnx")
    if int8:
        show.next_step(f"seqdiffrec info {shlex.quote(str(run))}")
    else:
        show.next_step(shlex.join(["seqdiffrec", "export", str(run), "--onnx", str(other), "--int8"]))
