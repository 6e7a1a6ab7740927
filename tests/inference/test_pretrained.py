"""The layout of the Hugging Face Hub: folders both ways, and a Hub on this machine that takes and gives files."""

import base64
import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import ModelCard, constants
from safetensors.torch import load_file

import seqdiffrec as sdr
from seqdiffrec.training import Reporter
from tests.inference.conftest import make

LAYOUT = {"model.safetensors", "config.json", "items.arrow", "metrics.jsonl", "README.md"}


@pytest.mark.parametrize("name", ["shared", "sasrec", "popularity"])
def test_a_folder_holds_the_model_and_none_of_the_log(name: str, models, tmp_path):
    model = models[name]
    folder = model.save_pretrained(tmp_path / "mine")
    assert {path.name for path in folder.iterdir()} == LAYOUT
    loaded = sdr.Recommender.from_pretrained(folder)
    assert type(loaded) is type(model) and loaded.config == model.config
    asked = [[10, 20], [], [30]]
    assert loaded.recommend_sequences(asked, k=5).equals(model.recommend_sequences(asked, k=5))
    with pytest.raises(sdr.RunError, match="no corpus"):
        loaded.recommend([100])
    weights = load_file(folder / "model.safetensors")
    assert weights.keys() == model.model.state_dict().keys()


def test_a_run_and_its_folder_are_saved_alike_and_saved_again(data, tmp_path):
    facts = {"command": "seqdiffrec train --data /home/me/secret.csv", "data": {"file": "/home/me/secret.csv"}}
    model = make("sasrec").fit(data, out=tmp_path / "run", reporter=Reporter(), facts=facts)
    first = model.save_pretrained(tmp_path / "first")
    config = json.loads((first / "config.json").read_text())
    assert config["settings"]["model"] == "sasrec" and config["best"] == model.run.record["best"]
    assert "secret" not in (first / "config.json").read_text() and "machine" not in config
    second = sdr.load(first, output="pandas").save_pretrained(tmp_path / "second")
    for name in LAYOUT:
        assert (second / name).read_bytes() == (first / name).read_bytes()
    assert sdr.load(tmp_path / "second").evaluate(data, ks=[5]) == model.evaluate(data, ks=[5])


def test_the_card_has_metadata_that_the_hub_reads(models, tmp_path):
    model = models["shared"]
    card = ModelCard.load(model.save_pretrained(tmp_path / "mine") / "README.md")
    assert card.data.library_name == "seqdiffrec"
    assert card.data.tags == ["recommendation", "sequential-recommendation", "diffrec"]
    assert card.data.metrics == ["hr", "mrr", "ndcg"]
    best = model.state.history[model.state.best_epoch]["validation"]["seen_kept"]
    told = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert told == {f"{name}, validation, seen kept": pytest.approx(value, abs=1e-6) for name, value in best.items()}
    assert "# DiffRec: data" in card.text and "14 items" in card.text


def test_a_folder_that_is_taken_broken_or_not_there_is_told(models, tmp_path):
    folder = models["sasrec"].save_pretrained(tmp_path / "mine")
    with pytest.raises(sdr.RunError, match="exists already"):
        models["sasrec"].save_pretrained(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(sdr.RunError, match=r"model.safetensors has \d+ bytes, config.json says"):
        sdr.Recommender.from_pretrained(folder)
    (folder / "config.json").write_text("{}")  # of another library
    with pytest.raises(sdr.RunError, match=r"config.json is not a run's record"):
        sdr.Recommender.from_pretrained(folder)
    with pytest.raises(sdr.SettingError, match="not fitted yet"):
        make("sasrec").save_pretrained(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_full_disk_leaves_nothing(models, tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(sdr.DataError, match="free some space"):
        models["sasrec"].save_pretrained(tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as an upload and a download ask for; repositories are in the server's `files`."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        files, parts = self.server.files, self.path.split("?")[0].strip("/").split("/")
        if self.headers.get("Authorization") != "Bearer mine":
            return self._json({"error": "Invalid credentials"}, 401)
        if parts[:2] == ["api", "repos"]:
            asked = json.loads(body)
            self.server.created.append(asked)
            return self._json({"url": f"{self.server.address}/me/{asked['name']}"})
        if parts[:2] == ["api", "validate-yaml"]:
            return self._json({"errors": [], "warnings": []})
        if parts[-2] == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            regular = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            return self._json({"files": regular})
        assert parts[-2] == "commit", self.path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self._json({"commitUrl": f"{self.server.address}/me/mine/commit/{SHA}", "commitOid": SHA})

    def do_GET(self) -> None:
        files, parts = self.server.files, self.path.split("?")[0].strip("/").split("/")
        if parts[:4] == ["api", "models", "me", "mine"] and "tree" in parts:
            sizes = {name: len(content) for name, content in files.items()}
            return self._json([{"type": "file", "path": name, "size": sizes[name], "oid": SHA} for name in sizes])
        if parts[:4] == ["api", "models", "me", "mine"]:
            siblings = [{"rfilename": name} for name in files]
            return self._json({"id": "me/mine", "sha": SHA, "siblings": siblings, "tags": [], "private": True})
        if parts[:3] == ["me", "mine", "resolve"] and parts[-1] in files:
            return self._send(files[parts[-1]], 200)
        return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET  # noqa: N815

    def _json(self, content: dict | list, status: int = 200, more: dict | None = None) -> None:
        self._send(json.dumps(content).encode(), status, more)

    def _send(self, content: bytes, status: int, more: dict | None = None) -> None:
        self.send_response(status)
        etag = hashlib.sha256(content).hexdigest()
        told = {"ETag": f'"{etag}"', "X-Repo-Commit": SHA, "Content-Length": str(len(content)), **(more or {})}
        for name, value in {**told, "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.address, server.files, server.created = f"http://127.0.0.1:{server.server_port}", {}, []
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_what_is_uploaded_is_what_is_read(hub, models, tmp_path):
    model = models["shared"]
    assert model.push_to_hub("me/mine", token="mine") == f"{hub.address}/me/mine"
    assert hub.created[0]["visibility"] == "private"
    assert hub.files.keys() == LAYOUT
    folder = model.save_pretrained(tmp_path / "folder")
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.files["notes.bin"] = b"something of somebody else"
    loaded = sdr.Recommender.from_pretrained("me/mine", output="pandas")
    expected = model.recommend_sequences([[10, 20]], k=5)
    assert loaded.recommend_sequences([[10, 20]], k=5).to_dict("records") == expected.to_dicts()
    assert {path.name for path in loaded.run.path.iterdir()} == LAYOUT


def test_a_hub_that_refuses_is_told_and_so_is_a_repository_that_is_not_there(hub, models):
    with pytest.raises(sdr.RunError, match=r"me/mine could not be uploaded: .*401"):
        models["sasrec"].push_to_hub("me/mine", token="another's")
    assert not hub.files
    with pytest.raises(sdr.RunError, match="me/other is no folder here, and could not be had from the Hub"):
        sdr.Recommender.from_pretrained("me/other")
    with pytest.raises(sdr.RunError, match="is no folder here"):
        sdr.Recommender.from_pretrained("/no/such/folder")


def test_a_cut_off_file_from_the_hub_is_refused(hub, models):
    models["sasrec"].push_to_hub("me/mine", token="mine")
    hub.files["items.arrow"] = hub.files["items.arrow"][:-8]
    with pytest.raises(sdr.RunError, match=r"items.arrow has \d+ bytes"):
        sdr.Recommender.from_pretrained("me/mine")


def test_without_the_package_it_says_which_extra(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(sdr.SettingError, match=r"pip install 'seqdiffrec\[hub\]'"):
        models["sasrec"].push_to_hub("me/mine")
