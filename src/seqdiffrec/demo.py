"""The demo: DiffRec, SASRec and popularity on ML-100K, held against each other, and one user's recommendations."""

import shlex
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from seqdiffrec import show
from seqdiffrec.data import Dataset, load_dataset
from seqdiffrec.evaluation import Evaluation
from seqdiffrec.inference import Recommender, recommender_class

# Small enough for a few minutes on two cores. docs/settings.md says what each does, docs/attention.md what a shared
# history is.
SETTINGS = {
    "hidden_size": 64,
    "dropout": 0.2,
    "cosine_output": True,
    "seen_bias": True,
    "epochs": 8,
    "decay": "cosine",
    "learning_rate": 0.002,
}
DIFFREC = {"attention": "shared_history", "tied_output": True, "history_skip": True}
USER = 196


def run_demo(out: Path) -> None:
    """Train the three, print their figures on the test set and one user's list. Runs go below ``out``."""
    folder = _free(out)
    data = load_dataset("ml-100k")
    models: dict[str, Recommender] = {
        "popularity": recommender_class("popularity")(),
        "SASRec": recommender_class("sasrec")(**SETTINGS),
        "DiffRec, shared history": recommender_class("diffrec")(**SETTINGS, **DIFFREC),
    }
    facts = {"command": f"seqdiffrec demo --out {shlex.quote(str(out))}", "data": {"dataset": "ml-100k"}}
    results: dict[str, Evaluation] = {}
    for name, model in models.items():
        show.notice(f"Training {name}")
        model.fit(data, out=folder / model.model_name, facts=facts)
        results[name] = model.evaluate(data)
    diffrec = models["DiffRec, shared history"]
    _show_user(diffrec, data)
    _show_figures(results)
    show.next_step(f"seqdiffrec recommend {folder / 'diffrec'} --history 50 181 172")


def _free(out: Path) -> Path:
    """``out``, or the first of out-2, out-3, ... that is not taken: an earlier demo stays as it is."""
    candidate, number = out, 1
    while candidate.exists():
        number += 1
        candidate = out.with_name(f"{out.name}-{number}")
    return candidate


def _show_user(model: Recommender, data: Dataset) -> None:
    """The user's last ten titles beside ten recommended ones."""
    titles = model.vocabulary["title"]
    history = data.corpus.sequences()[data.corpus.user_index(USER)][-10:]
    recommended = model.recommend([USER], k=10).iter_rows(named=True)
    table = Table(title=f"User {USER}")
    table.add_column("the last ten, newest first")
    table.add_column("what DiffRec recommends")
    table.add_column("probability", justify="right")
    for item, row in zip(history[::-1], recommended, strict=True):
        table.add_row(escape(str(titles[int(item) - 1])), escape(str(row["title"])), f"{row['score']:.2%}")
    show.OUT.print(table)


def _show_figures(results: dict[str, Evaluation]) -> None:
    table = Table(title="ML-100K, test: full ranking of 1,349 items, last item of each of 943 users")
    table.add_column("", no_wrap=True)
    for protocol in show.PROTOCOLS.values():
        for metric in ("HR@10", "NDCG@10"):
            table.add_column(f"{metric}\n{protocol}", justify="right")
    for name, result in results.items():
        cells = [result[part][metric] for part in ("seen_kept", "seen_removed") for metric in ("HR@10", "NDCG@10")]
        table.add_row(name, *(f"{value:.4f}" for value in cells))
    show.OUT.print(table)
