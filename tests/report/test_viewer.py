"""The viewer is fetched once, and nothing else is taken for it."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from volseg.errors import InputError, ServerError
from volseg.report import fetch_viewer, find_viewer
from volseg.report import viewer as module


def test_the_viewer_that_is_there_is_not_fetched_again(viewer: Path, monkeypatch):
    monkeypatch.setattr(module, "ADDRESS", "http://127.0.0.1:1/")
    assert fetch_viewer() == find_viewer() == viewer
    assert '"BSD-2-Clause"' in viewer.with_name("package.json").read_text()
    script = module.read_viewer(viewer)
    assert "</script" not in script.lower()
    assert len(script) > 10**6


def test_what_is_not_the_viewer_is_not_kept(tmp_path, monkeypatch):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"something else")

        def log_message(self, *_):
            pass

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    server = HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.handle_request, daemon=True).start()
    monkeypatch.setattr(module, "ADDRESS", f"http://127.0.0.1:{server.server_port}/niivue.tgz")
    with pytest.raises(ServerError, match="is not NiiVue"):
        fetch_viewer()
    server.server_close()
    with pytest.raises(ServerError, match="give it with --viewer"):
        fetch_viewer()
    assert find_viewer() is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_viewer_is_refused(tmp_path):
    (tmp_path / "other.js").write_text("alert(1)")
    for name in ("other.js", "absent.js"):
        with pytest.raises(InputError, match=name):
            module.read_viewer(tmp_path / name)
