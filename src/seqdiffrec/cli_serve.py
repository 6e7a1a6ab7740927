"""The command `serve`."""

from pathlib import Path
from typing import Annotated

import typer

from seqdiffrec import show
from seqdiffrec.cli_options import Run

serve_app = typer.Typer()


@serve_app.command()
def serve(
    run: Run,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at.")] = 8000,
    store: Annotated[Path | None, typer.Option(help="Where events are kept.")] = None,
) -> None:
    """A run as an HTTP service with a page. Example: seqdiffrec serve runs/mine"""
    import uvicorn

    from seqdiffrec.serving import create_app

    kept = run.parent / f"{run.name}-events.sqlite" if store is None else store
    app = create_app(run, store=f"sqlite:///{kept.absolute()}")
    show.notice(f"{run} at http://{host}:{port}")
    uvicorn.run(app, host=host, port=port)
