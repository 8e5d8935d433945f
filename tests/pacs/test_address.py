"""Addresses, conditions and secrets."""

from __future__ import annotations

import sys

import pytest

from volseg.errors import InputError, MissingPackageError, UnknownNameError
from volseg.pacs import (
    Connection,
    Credentials,
    FoundSeries,
    SeriesQuery,
    is_address,
    open_server,
    parse_address,
    read_secret,
)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("dicomweb://pacs.example/dicom-web", "http://pacs.example/dicom-web"),
        ("dicomwebs://pacs.example:8443/a/b/", "https://pacs.example:8443/a/b"),
        ("dicomweb://[::1]:8042", "http://[::1]:8042"),
        ("DICOMWEBS://Pacs.example/dicom-web?study=1.2", "https://pacs.example/dicom-web"),
    ],
)
def test_dicomweb(text, url):
    address = parse_address(text)
    assert is_address(text)
    assert address.url == url
    assert address.ae_title == ""


def test_dimse_with_conditions():
    address = parse_address(
        "dimse://My%20PACS@10.0.0.1:11112?patient=P*&date=20260101-&modality=CT"
    )
    assert (address.host, address.port, address.ae_title) == ("10.0.0.1", 11112, "My PACS")
    assert address.query == SeriesQuery(patient="P*", date="20260101-", modality="CT")
    assert str(address) == "dimse://My PACS@10.0.0.1:11112"
    assert parse_address("dimse://A@host").port is None
    assert parse_address("dicomweb://h:80/r?name=a@b").query == SeriesQuery(name="a@b")
    assert not address.is_encrypted
    assert parse_address("dimses://A@host").is_encrypted


@pytest.mark.parametrize(
    "text",
    [
        "http://host/root",
        "dicomweb:///root",
        "dicomweb://host:port/root",
        "dimse://host:104",
        "dimse://A@host/root",
        "dimse://A@",
        "dicomweb://host/root#part",
        "dimse://SEVENTEEN-LETTERS@host",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InputError, match="expected"):
        parse_address(text)


@pytest.mark.parametrize("text", ["dicomweb://me:hidden1@host/root", "dimse://A:hidden1@host:104"])
def test_a_password_in_an_address_is_refused_and_not_repeated(text):
    with pytest.raises(InputError, match="where others see it") as raised:
        parse_address(text)
    assert "hidden1" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "dicomwebs://me:hidden1#x@pacs/root",
        "dicomwebs://me:1234#hidden1@pacs/root",
        "dicomwebs://me:1234/hidden1@pacs/root",
        "dicomwebs://me:1234?hidden1@pacs/root",
        "dimse://A:1234/hidden1@pacs:104",
        "http://me:1234/hidden1@pacs",
    ],
)
def test_a_password_that_ends_the_host_is_not_repeated_either(text):
    with pytest.raises(InputError) as raised:
        parse_address(text)
    assert "hidden1" not in str(raised.value)
    assert "1234" not in str(raised.value)


def test_paths_are_no_addresses():
    for text in ("scans/", "C:\\scans", "./dicomweb", "file://x"):
        assert not is_address(text)


def test_conditions():
    with pytest.raises(UnknownNameError, match="did you mean 'patient'"):
        parse_address("dimse://A@host?patent=1")
    with pytest.raises(InputError, match="has study twice"):
        parse_address("dimse://A@host?study=1.2&study=1.3")
    with pytest.raises(InputError, match="not a DICOM UID"):
        SeriesQuery(study="1.2.*")
    both = SeriesQuery(patient="1").merged(SeriesQuery(modality="CT", patient="1"))
    assert both == SeriesQuery(patient="1", modality="CT")
    with pytest.raises(InputError, match=r"two values of patient, '1' .* and '2'"):
        SeriesQuery(patient="1").merged(SeriesQuery(patient="2"))
    assert not SeriesQuery().has_conditions


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (SeriesQuery(), True),
        (SeriesQuery(name="doe*"), True),
        (SeriesQuery(name="Doe^Jane^"), True),
        (SeriesQuery(name="Doe"), False),
        (SeriesQuery(description="t? [ax]"), True),
        (SeriesQuery(date="20260131"), True),
        (SeriesQuery(date="20260131-"), True),
        (SeriesQuery(date="-20260130"), False),
        (SeriesQuery(date="20260101-20260131"), True),
        (SeriesQuery(modality="MR"), False),
    ],
)
def test_what_a_server_returns_is_looked_at_again(query, expected):
    found = FoundSeries(
        "1.2", "1.3", name="DOE^Jane", description="T2 [ax]", date="20260131", modality="CT"
    )
    assert query.matches(found) is expected
    assert SeriesQuery(date="20260131-").matches(FoundSeries("1.2", "1.3")) is False


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Yamada^Tarou", True),
        ("山田^太郎", True),
        ("山田*", True),
        ("やまだ^たろう^", True),
        ("YAMADA^TAROU=山田^太郎=やまだ^たろう", True),
        ("Yamada", False),
    ],
)
def test_a_name_is_found_in_each_of_its_scripts(name, expected):
    found = FoundSeries("1.2", "1.3", name="Yamada^Tarou=山田^太郎=やまだ^たろう")
    assert SeriesQuery(name=name).matches(found) is expected


def test_connections_that_cannot_be(caplog):
    with pytest.raises(InputError, match="DIMSE knows AE titles and certificates"):
        open_server(parse_address("dimse://A@h"), Connection(credentials=Credentials(token="t")))
    with pytest.raises(InputError, match="expected more than 0"):
        Connection(timeout=0)
    with pytest.raises(InputError, match="not where one can listen"):
        Connection(listen="host")
    assert Connection(listen="[::1]:104").listening_at() == ("::1", 104)
    assert Connection(listen="104").listening_at() == ("", 104)
    connection = Connection(credentials=Credentials(token="top-secret"))
    assert "top-secret" not in repr(connection)
    open_server(parse_address("dicomweb://pacs.example/r"), connection)
    assert "is not encrypted" in caplog.text
    assert "top-secret" not in caplog.text


def test_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", " abc ")
    (tmp_path / "token").write_text("def\n")
    assert read_secret("env:SOME_TOKEN", "--token") == "abc"
    assert read_secret(f"file:{tmp_path / 'token'}", "--token") == "def"
    (tmp_path / "token").write_text("two\nlines")
    with pytest.raises(InputError, match="not one line"):
        read_secret(f"file:{tmp_path / 'token'}", "--token")
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="does not hold text"):
        read_secret(f"file:{tmp_path / 'token'}", "--token")


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("dicomweb_client", lambda: open_server(parse_address("dicomweb://h/r"))),
        ("pynetdicom", lambda: open_server(parse_address("dimse://A@h"))),
    ],
)
def test_packages_that_are_not_installed_are_named(monkeypatch, package, use):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=r"volseg\[pacs\]"):
        use()
