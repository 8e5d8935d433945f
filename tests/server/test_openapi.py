"""The OpenAPI says what the server does: schemathesis calls every operation in every way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from volseg import __version__

_TOKEN = "secret"


def test_schemathesis_finds_nothing(serve_here, tmp_path):
    client = serve_here(token=_TOKEN)
    # What is valid by the schema is not accepted by it alone: a binary may be no image.
    options = ["--exclude-checks", "positive_data_acceptance", "--max-examples", "12"]
    run = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run"),
            f"{client.base_url}/openapi.json",
            *("--header", f"Authorization: Bearer {_TOKEN}", "--seed", "1", "--no-color"),
            *options,
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stdout[-8000:]


def test_every_operation_is_described(serve_here):
    schema = serve_here().get("/openapi.json").json()
    assert schema["info"]["version"] == __version__
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            for status, answer in operation["responses"].items():
                assert answer["description"], (method, path, status)
                if int(status) >= 400:
                    content = answer["content"]["application/json"]["schema"]
                    assert content["$ref"].endswith("/Problem"), (method, path, status)
