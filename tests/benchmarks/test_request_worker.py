"""The worker that answers requests, with a small catalogue."""

import pytest
import torch

from benchmarks.exported_worker import COMPARED, ExportedServer
from benchmarks.request_worker import GROUP, Server, group_items
from benchmarks.workload import make_model
from tests.shapes import unchecked

SIZE = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "max_length": 10, "dropout": 0.1}


@pytest.fixture(scope="module")
def server() -> Server:
    torch.manual_seed(0)
    model = make_model("DiffRec shared_history", 350, SIZE, cosine_output=True, history_skip=True).eval()
    group_items(model)
    return Server(model, length=9, top=5)


def test_items_of_a_group_are_alike_and_others_are_not(server):
    items = torch.nn.functional.normalize(server.model.table.embedding.weight[1:].detach())
    alike = items @ items.T
    assert alike[:GROUP, :GROUP].mean() > 0.6 and alike[3 * GROUP :, 3 * GROUP :].mean() > 0.6  # the last has 50
    assert abs(float(alike[:GROUP, GROUP : 2 * GROUP].mean())) < 0.6
    assert float(server.model.table.embedding.weight[0].detach().abs().max()) == 0


def test_an_index_is_built_and_asked(server):
    asked: list[object] = []
    told = server.index(users=20, overlap=0.5)
    assert told["overlap@10"] >= 0.5 and told["histories"] == 20 and told["build_seconds"] >= 0
    plain = server.built
    server.built = lambda draws, count: asked.append(count) or plain(draws, count)
    assert server.request(0, seeds=2, users=3)["seconds"] > 0 and not asked
    assert server.request(0, seeds=2, users=3, by_index=True)["seconds"] > 0 and asked


def test_the_histories_of_a_number_are_always_the_same(server):
    first, again, other = (server.histories(number, 4) for number in (7, 7, 8))
    assert list(first.lengths) == [9] * 4 and (first.items == again.items).all()
    assert not (first.items == other.items).all() and first.items.min() >= 1 and first.items.max() <= 350


@pytest.mark.slow
def test_an_exported_file_is_asked_for_as_many_seeds_as_are_wanted(server):
    with unchecked():  # in a trace a size may be a symbol
        exported = ExportedServer(server.model, length=9, top=5)
    asked: list[tuple[int, ...]] = []
    session = exported.session

    class Noted:
        def run(self, names, inputs):
            asked.extend(inputs[name].shape for name in ("history", "noise"))
            return session.run(names, inputs)

    exported.session = Noted()
    assert exported.request(0, seeds=2)["seconds"] > 0
    assert asked == [(1, 9), (2, 16)]
    exported.session = session
    told = exported.compare()
    assert told["histories"] == COMPARED and told["overlap"] == 1
