"""The server of a report: on the loopback address alone, until the runs have ended."""

import socket
import threading
import urllib.error
import urllib.request

import pytest

from dbp.errors import UserError
from dbp.report import watch
from dbp.report.watch import ReportServer
from tests.processes import LIMIT


def get(address, **headers):
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=LIMIT) as answer:
        return answer.status, answer.read().decode(), answer.headers


def test_the_page_is_served_until_the_last_one_is_shown(monkeypatch):
    monkeypatch.setattr(watch, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.02)
    state = {"ended": False}
    with ReportServer(lambda: (f"page {state['ended']}", state["ended"]), 0) as server:
        waiting = threading.Thread(target=server.wait)
        waiting.start()
        status, text, headers = get(server.address)
        assert (status, text, headers["Cache-Control"]) == (200, "page False", "no-store")
        assert waiting.is_alive()
        state["ended"] = True
        assert get(server.address)[1] == "page True"
        waiting.join(LIMIT)
        assert not waiting.is_alive()


def test_without_a_browser_the_server_ends_a_while_after_the_runs(monkeypatch):
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watch, "LINGER_SECONDS", 0.05)
    with ReportServer(lambda: ("page", True), 0) as server:
        server.wait()


def test_only_this_machine_is_answered_and_only_with_the_page():
    with ReportServer(lambda: ("page", False), 0) as server:
        for path, headers, code in (("x", {}, 404), ("", {"Host": "evil.example"}, 403), ("../etc", {}, 404)):
            with pytest.raises(urllib.error.HTTPError) as error:
                get(server.address + path, **headers)
            assert error.value.code == code
            error.value.close()
        assert get(server.address, Host="localhost:1")[0] == 200
        with socket.socket() as other:  # any other address of this machine
            assert server._server.socket.getsockname()[0] == "127.0.0.1"
            other.close()


@pytest.mark.parametrize("port", [-1, 99999])
def test_a_port_that_cannot_be_used_is_refused_with_the_remedy(port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {number} is in use; choose another with --port, or any free one"):
            ReportServer(lambda: ("", True), number)
    with pytest.raises(UserError, match=f"--port must be from 0 to 65535, but is {port}"):
        ReportServer(lambda: ("", True), port)
