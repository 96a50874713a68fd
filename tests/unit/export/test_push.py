"""``push`` sends the files of the manifest and the card to a stand-in for the hub, and no other file of the folder."""

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

PROGRAM = "from tlm_search.cli.main import main; main()"


class Hub(ThreadingHTTPServer):
    """The few paths of the hub's API that an upload of small files uses. It remembers what was committed."""

    daemon_threads = True

    def __init__(self, *, refuse=False):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refuse = refuse
        self.created = None
        self.files = {}


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, {"name": "me", "type": "user", "orgs": [], "sha": "0" * 40, "siblings": [], "id": "me/tiny"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.refuse:
            self.answer(403, {"error": "you may not"})
        elif self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            self.answer(200, {"url": f"http://127.0.0.1:{self.server.server_port}/me/tiny"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            regular = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self.answer(200, {"files": regular})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://127.0.0.1:{self.server.server_port}/me/tiny/commit/0"
            self.answer(200, {"commitUrl": url, "commitOid": "0" * 40, "success": True})
        else:
            self.answer(200, {"errors": [], "warnings": []})


@pytest.fixture
def hub():
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def push(hub, *arguments):
    environment = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_TOKEN": "hf_stand_in"}
    environment = {**environment, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", PROGRAM, "push", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)


def test_the_hub_gets_the_whole_export_and_nothing_else(hub, exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "tiny")
    (folder / "secret.txt").write_text("mine")
    ended = push(hub, folder, "me/tiny")
    assert ended.returncode == 0, ended.stderr
    asked = hub.created  # older clients send it as private: true
    assert asked.get("visibility") == "private" or asked.get("private") is True
    expected = {f.relative_to(exported).as_posix(): f.read_bytes() for f in exported.rglob("*") if f.is_file()}
    assert hub.files == expected


def test_a_refusal_is_one_message(hub, exported):
    hub.refuse = True
    ended = push(hub, exported, "me/tiny")
    assert ended.returncode == 2
    assert "the Hugging Face hub refused me/tiny" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_dry_run_sends_nothing_and_a_damaged_export_is_not_sent(call, exported, tmp_path):
    code, out, _ = call("push", str(exported), "me/tiny", "--dry-run")
    assert code == 0
    assert "model.safetensors" in out
    assert "nothing was sent" in out
    folder = shutil.copytree(exported, tmp_path / "tiny")
    (folder / "labels.json").unlink()
    code, out, err = call("push", str(folder), "me/tiny")
    assert (code, out) == (2, "")
    assert "labels.json is missing" in err
