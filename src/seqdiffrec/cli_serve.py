"""The commands `serve` and `key`."""

import ipaddress
import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from seqdiffrec import show
from seqdiffrec.cli_options import AsJson, Run
from seqdiffrec.models.settings import SettingError

serve_app = typer.Typer()

KeysFile = Annotated[Path | None, typer.Option(help="File of keys, made by `key`; callers have to show one.")]


@serve_app.command()
def serve(
    run: Run,
    host: Annotated[str, typer.Option(help="Address to listen at; other than this machine's own needs --keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8000,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="SEQDIFFREC_STORE",
            help="Where events are kept: a file, or postgresql://...  [default: RUN-events.sqlite beside RUN]",
        ),
    ] = None,
    keys: KeysFile = None,
    threads: Annotated[int, typer.Option(min=1, help="Cores that the model computes on.")] = 1,
    approximate: Annotated[bool, typer.Option(help="Look things up in the run's index, which `index` makes.")] = False,
) -> None:
    """A run as an HTTP service with a page. Example: seqdiffrec serve runs/mine --port 8000"""
    try:
        import torch

        from seqdiffrec.serving import create_app
        from seqdiffrec.serving.keys import Keys
        from seqdiffrec.serving.server import listen, log_as_json, serve as run_server
    except ImportError as error:
        raise SettingError(f"serving needs {error.name}: pip install 'seqdiffrec[serve]'") from error
    if keys is None and not _is_this_machine(host):
        raise SettingError(
            f"{host} can be reached from other machines, so callers need a key: "
            "make one with seqdiffrec key keys.json, and give --keys keys.json"
        )
    torch.set_num_threads(1)  # the model's process has the others
    place = str(_beside(run)) if store is None else store
    at = listen(host, port)
    app = create_app(
        run, store=place, keys=None if keys is None else Keys(keys), threads=threads, approximate=approximate
    )
    url = f"http://{f'[{host}]' if ':' in host else host}:{at.getsockname()[1]}"
    kept, model = app.state.service.store_shown, app.state.service.model
    show.notice(f"{run} at {url} (the page; {url}/docs is the interface). Events are kept in {kept}. Ctrl-C stops.")
    if model.index is not None:
        show.notice(f"approximate: {show.overlap(model.index)}; probabilities are estimates")
        if model.index["approximate_ms"] >= model.index["exact_ms"]:
            show.notice("The index is not faster here: leave --approximate out.")
    show.next_step(f"open {url}, or: {_example(url, model.ids[:2], keyed=keys is not None)}")
    log_as_json()
    run_server(app, at)


@serve_app.command()
def key(
    file: Annotated[Path, typer.Argument(help="File of keys; it is made, or gets one more.")],
    name: Annotated[str, typer.Option(help="Whose key it is; logs say it.")] = "default",
    as_json: AsJson = False,
) -> None:
    """Make a key for callers of `serve --keys FILE`. Example: seqdiffrec key keys.json --name shop"""
    from seqdiffrec.serving.keys import add_key

    made = add_key(file, name)
    print(json.dumps({"name": name, "key": made, "file": str(file)}) if as_json else made)
    show.notice("This is the only time that it is shown: the file has its hash alone. Callers send it as")
    show.notice("Authorization: Bearer KEY")
    show.next_step(shlex.join(["seqdiffrec", "serve", "RUN", "--keys", str(file)]))


def _beside(run: Path) -> Path:
    """Beside the run and not in it, so that it stays where the run is a link that is turned to a newer one."""
    whole = run.absolute()
    return whole.with_name(f"{whole.name or 'run'}-events.sqlite")


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _example(url: str, items: list[int | str], *, keyed: bool) -> str:
    words = ["curl", f"{url}/v1/recommendations", "--json", json.dumps({"history": items, "k": 5})]
    return shlex.join(words + (["-H", "Authorization: Bearer KEY"] if keyed else []))
