"""Which requests the dashboard answers, and what they may change."""

import io
import json
from collections.abc import Callable

import optuna
import pytest
from driven import Bench
from optuna_dashboard import wsgi

from tlm_search.study.dashboard import Door
from tlm_search.study.location import StudyLocation
from tlm_search.study.showcase import Showcase

MakeBench = Callable[..., Bench]


class Client:
    """Sends requests to the dashboard of a study as a browser does, without a socket."""

    def __init__(self, bench: Bench, *, writable: bool) -> None:
        (bench.folder / "study").mkdir()
        self.study = StudyLocation.of(bench.folder / "study").create(bench.space)
        self.showcase = Showcase(self.study, bench.folder / "study", lambda record: ({}, "<h1>report</h1>"))
        self.showcase.draw_if_new()
        self._app = Door(wsgi(self.showcase, artifact_store=self.showcase.artifacts), writable=writable)
        self.headers: dict[str, str] = {}

    @property
    def path(self) -> str:
        return f"/api/studies/{self.study._study_id}"

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
        sent, replied = json.dumps(body).encode(), []
        environ = {
            "REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(sent), "CONTENT_LENGTH": len(sent),
            "CONTENT_TYPE": "application/json", "HTTP_HOST": "127.0.0.1:8080", "wsgi.errors": io.StringIO(),
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8080", "wsgi.url_scheme": "http",
            **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
        }  # fmt: skip

        def start_response(status: str, headers: list[tuple[str, str]], *error: object) -> None:
            replied.append(int(status.split()[0]))
            self.headers = {name.lower(): value for name, value in headers}

        content = b"".join(self._app(environ, start_response))
        return replied[0], content


@pytest.fixture
def client(bench: MakeBench) -> Client:
    return Client(bench(), writable=False)


@pytest.fixture
def writable(bench: MakeBench) -> Client:
    return Client(bench(), writable=True)


@pytest.mark.parametrize(
    "host", ["elsewhere.example", "127.0.0.1.elsewhere.example:8080", "", "0.0.0.0", "[::1", "a@b"]
)
def test_a_host_of_another_name_is_refused_even_to_read(host: str, writable: Client) -> None:
    for method in ("GET", "DELETE"):
        status, body = writable.ask(method, writable.path, host=host)
        assert (status, json.loads(body)) == (403, {"reason": "this dashboard answers only at 127.0.0.1 and localhost"})
    assert writable.ask("GET", writable.path)[0] == 200


@pytest.mark.parametrize(
    "origin", ["http://elsewhere.example", "null", "", "http://127.0.0.1:9999", "http://localhost:8080"]
)
def test_a_page_of_another_origin_is_refused_even_to_read(origin: str, writable: Client) -> None:
    for method in ("GET", "DELETE"):
        status, body = writable.ask(method, writable.path, origin=origin)
        assert (status, json.loads(body)) == (403, {"reason": "this dashboard does not answer pages of another origin"})


@pytest.mark.parametrize("host", ["localhost:8080", "LOCALHOST", "127.0.0.1", "[::1]:8080", "localhost:9000"])
def test_this_machine_and_a_tunnel_to_it_are_let_in(host: str, client: Client) -> None:
    assert client.ask("GET", client.path, host=host)[0] == 200
    assert client.ask("GET", client.path, host=host, origin=f"http://{host}")[0] == 200


def test_nothing_can_be_changed_unless_it_is_asked_for(client: Client) -> None:
    study = client.path
    changes = [
        ("POST", "/api/studies", {"study_name": "new", "directions": ["minimize"]}),
        ("POST", f"{study}/rename", {"study_name": "new"}),
        ("PUT", f"{study}/note", {"version": 1, "body": "new"}),
        (
            "POST",
            f"/api/artifacts/{study.rpartition('/')[2]}",
            {"file": "data:text/plain;base64,YQ==", "filename": "a"},
        ),
        ("DELETE", study, {}),
    ]
    attributes = client.study._storage.get_study_system_attrs(client.study._study_id)
    for change in changes:
        status, body = client.ask(*change)
        assert (status, "--writable" in json.loads(body)["reason"]) == (403, True)
    assert client.study._storage.get_study_system_attrs(client.study._study_id) == attributes
    assert not client.showcase.artifacts._folder.exists()
    assert client.ask("HEAD", study)[0] == 200


def test_an_artifact_is_sent_to_no_other_origin(client: Client) -> None:
    number = client.path.rpartition("/")[2]
    (report,) = json.loads(client.ask("GET", client.path)[1])["artifacts"]
    status, page = client.ask("GET", f"/artifacts/{number}/{report['artifact_id']}")
    assert (status, page) == (200, b"<h1>report</h1>")
    assert client.headers["content-type"] == "text/html"
    assert "access-control-allow-origin" not in client.headers


@pytest.mark.parametrize("body", [{}, {"remove_associated_artifacts": True}, {"remove_associated_artifacts": False}])
def test_a_study_is_deleted_with_what_was_uploaded_for_it(body: object, writable: Client) -> None:
    number = writable.path.rpartition("/")[2]
    note = {"file": "data:text/plain;base64,YQ==", "filename": "a.txt"}
    assert [writable.ask("POST", f"/api/artifacts/{number}", note)[0] for _ in range(2)] == [201, 201]
    uploaded = sorted(writable.showcase.artifacts._folder.iterdir())
    uploaded.pop().unlink()  # a file that is already gone is no error
    status, reply = writable.ask("DELETE", writable.path, body)
    assert (status, reply) == (204, b"")
    assert [file.exists() for file in uploaded] == [body == {"remove_associated_artifacts": False}]
    assert optuna.get_all_study_names(writable.study._storage) == []
