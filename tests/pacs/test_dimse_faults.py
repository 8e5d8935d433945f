"""DIMSE peers that misbehave: one sentence, nothing half-written, few attempts."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from dataclasses import replace

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from volseg.errors import InputError, OutputError, ServerError
from volseg.pacs import (
    Connection,
    FoundSeries,
    Patience,
    SeriesQuery,
    fetch_series,
    find_series,
    open_server,
    parse_address,
    push_files,
)

pytestmark = pytest.mark.usefixtures("_collected")

FAST = Patience(attempts=3, pause=0.01)
FIND = StudyRootQueryRetrieveInformationModelFind
GET = StudyRootQueryRetrieveInformationModelGet
MOVE = StudyRootQueryRetrieveInformationModelMove


def client(port, **options):
    address = parse_address(f"dimse://PEER@127.0.0.1:{port}")
    return open_server(address, Connection(**{"timeout": 5.0} | options))


@pytest.fixture
def peer():
    """Start DICOM peers whose every answer is the test's; returns their ports."""
    running = []

    def start(handlers, *, title="PEER", **syntaxes):
        entity = AE(title)
        entity.require_called_aet = True
        for model in (FIND, GET, MOVE, Verification):
            entity.add_supported_context(model)
        kinds = syntaxes.get("storage", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        if kinds:
            entity.add_supported_context(CTImageStorage, kinds, scu_role=True, scp_role=True)
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        running.append(server)
        return server.socket.getsockname()[1]

    yield start
    for server in running:
        server.shutdown()


@pytest.fixture
def raw_peer():
    """Listen on a port, and let the test do what it wants with the connections."""
    stop = threading.Event()
    sockets = []

    def start(act):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.05)
        sockets.append(listener)

        def serve():
            while not stop.is_set():
                with contextlib.suppress(TimeoutError, OSError):
                    connection, _ = listener.accept()
                    sockets.append(connection)
                    act(connection)

        threading.Thread(target=serve, daemon=True).start()
        return listener.getsockname()[1]

    yield start
    stop.set()
    for one in sockets:
        one.close()


def listing(paths):
    """Answer searches for the instances of a series."""
    datasets = [pydicom.dcmread(path) for path in paths]

    def answer(event):
        for dataset in datasets:
            match = pydicom.Dataset()
            match.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
                setattr(match, keyword, dataset[keyword].value)
            match.SOPInstanceUID, match.SOPClassUID = dataset.SOPInstanceUID, dataset.SOPClassUID
            yield 0xFF00, match

    first = datasets[0]
    return answer, FoundSeries(str(first.StudyInstanceUID), str(first.SeriesInstanceUID))


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_title_it_is_not_called_by_is_refused(peer):
    port = peer([(evt.EVT_C_ECHO, lambda event: 0x0000)], title="OTHER")
    with pytest.raises(ServerError, match=r"rejected the association: Called AE title not") as got:
        client(port).echo()
    assert not got.value.passing


@pytest.mark.parametrize("what", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 1000])
def test_something_else_than_dicom_is_one_sentence(raw_peer, what):
    def answer(connection):
        connection.recv(10000)
        connection.sendall(what)
        connection.close()

    with pytest.raises(ServerError, match="does not answer as a DICOM server"):
        client(raw_peer(answer), timeout=2.0).echo()


def test_a_silent_peer_is_given_up(raw_peer):
    started = time.monotonic()
    with pytest.raises(ServerError, match="does not answer as a DICOM server") as raised:
        client(raw_peer(lambda connection: None), timeout=0.3).echo()
    assert raised.value.passing
    assert time.monotonic() - started < 10


def test_an_encrypted_address_needs_no_certificate_to_be_encrypted(raw_peer):
    first_bytes = []

    def answer(connection):
        connection.settimeout(2)
        first_bytes.append(connection.recv(2))
        connection.close()

    address = parse_address(f"dimses://PEER@127.0.0.1:{raw_peer(answer)}")
    with pytest.raises(ServerError):
        open_server(address, Connection(timeout=2.0)).echo()
    # Each begins with a handshake of TLS, none with an A-ASSOCIATE-RQ.
    assert first_bytes
    assert set(first_bytes) == {b"\x16\x03"}


def test_a_search_that_fails_or_is_not_offered_is_one_sentence(peer):
    def out_of_resources(event):
        yield 0xA700, None

    with pytest.raises(ServerError, match="refused the search: status 0xa700") as raised:
        find_series(client(peer([(evt.EVT_C_FIND, out_of_resources)])), SeriesQuery(patient="1"))
    assert raised.value.passing

    def broken(event):
        raise ValueError

    with pytest.raises(ServerError, match="refused the search: status 0xc311"):
        find_series(client(peer([(evt.EVT_C_FIND, broken)])), SeriesQuery(patient="1"))


def test_a_peer_that_goes_away_during_a_search_is_one_sentence(peer):
    def leave(event):
        event.assoc.abort()
        yield 0xFF00, pydicom.Dataset()

    with pytest.raises(ServerError, match=r"broke off the connection") as raised:
        find_series(client(peer([(evt.EVT_C_FIND, leave)])), SeriesQuery(patient="1"))
    assert raised.value.passing


def test_a_peer_that_ignores_conditions_is_not_believed(peer, make_series):
    answer, _ = listing(make_series(1))
    found = find_series(client(peer([(evt.EVT_C_FIND, answer)])), SeriesQuery(patient="other"))
    assert found == []


def test_a_fetch_from_a_peer_that_goes_away_is_resumed(peer, make_series, tmp_path):
    paths = make_series(6)
    answer, series = listing(paths)
    datasets = {pydicom.dcmread(path).SOPInstanceUID: pydicom.dcmread(path) for path in paths}
    asked = []

    def give_two(event):
        wanted = event.identifier.SOPInstanceUID
        wanted = [wanted] if isinstance(wanted, str) else list(wanted)
        asked.append(len(wanted))
        yield len(wanted)
        for number, uid in enumerate(wanted):
            if number == 2:
                event.assoc.abort()
                return
            yield 0xFF00, datasets[uid]

    port = peer([(evt.EVT_C_FIND, answer), (evt.EVT_C_GET, give_two)])
    files = fetch_series(client(port), series, tmp_path / "out", patience=FAST)
    assert asked == [6, 4, 2]
    assert [pydicom.dcmread(path) for path in files] == [pydicom.dcmread(path) for path in paths]


def test_instances_that_are_never_sent_are_counted(peer, make_series, tmp_path):
    paths = make_series(3)
    answer, series = listing(paths)

    def give_one(event):
        yield 1
        yield 0xFF00, pydicom.dcmread(paths[0])

    port = peer([(evt.EVT_C_FIND, answer), (evt.EVT_C_GET, give_one)])
    with pytest.raises(ServerError, match=r"did not send 2 .* 1 of 3 instances .* are in"):
        fetch_series(client(port), series, tmp_path / "out", patience=FAST)
    assert names(tmp_path / "out") == [f"{pydicom.dcmread(paths[0]).SOPInstanceUID}.dcm"]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_what_is_no_uid_names_no_file(peer, make_series, tmp_path):
    paths = make_series(1)
    answer, series = listing(paths)

    def elsewhere(event):
        for status, match in answer(event):
            match["SOPInstanceUID"].validation_mode = pydicom.config.IGNORE
            match["SOPInstanceUID"].value = "../../escaped"
            yield status, match

    server = client(peer([(evt.EVT_C_FIND, elsewhere)]))
    with pytest.raises(ServerError, match="'../../escaped': expected digits and dots"):
        fetch_series(server, series, tmp_path / "a" / "b", patience=FAST)
    assert names(tmp_path) == [paths[0].name]


def test_a_list_that_is_not_whole_is_not_believed(peer, make_series, tmp_path):
    """Servers cap how many matches they return, without a word."""
    answer, series = listing(make_series(3))
    port = peer([(evt.EVT_C_FIND, answer)])
    more = replace(series, instances=4)
    with pytest.raises(ServerError, match="lists 3 instances .* says that it has 4"):
        fetch_series(client(port), more, tmp_path / "out", patience=FAST)


def test_instances_that_were_not_asked_for_are_not_kept(peer, make_series, tmp_path):
    paths, others = make_series(1), make_series(1)
    answer, series = listing(paths)

    def give_other(event):
        yield 1
        yield 0xFF00, pydicom.dcmread(others[0])

    port = peer([(evt.EVT_C_FIND, answer), (evt.EVT_C_GET, give_other)])
    with pytest.raises(ServerError, match="did not send 1"):
        fetch_series(client(port), series, tmp_path / "out", patience=FAST)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_a_fetch_and_is_said(peer, make_series, tmp_path):
    answer, series = listing(make_series(2))
    paths = make_series(1)

    def give(event):
        yield 1
        dataset = pydicom.dcmread(paths[0])
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = series.study, series.series
        uid = event.identifier.SOPInstanceUID
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid[0]
        yield 0xFF00, dataset

    (tmp_path / "out").write_text("a file where the folder should be")
    port = peer([(evt.EVT_C_FIND, answer), (evt.EVT_C_GET, give)])
    with pytest.raises(OutputError, match="cannot write"):
        fetch_series(client(port), series, tmp_path / "out", patience=FAST)
    assert (tmp_path / "out").read_text() == "a file where the folder should be"


def test_a_move_without_a_free_port_is_one_sentence(peer, make_series, tmp_path):
    answer, series = listing(make_series(1))
    port = peer([(evt.EVT_C_FIND, answer)])
    server = client(port, listen=f"127.0.0.1:{port}")
    with pytest.raises(InputError, match=f"cannot listen for DICOM on port {port}: .*in use"):
        fetch_series(server, series, tmp_path / "out", patience=FAST)


def test_a_refused_move_destination_is_one_sentence(peer, make_series, tmp_path):
    answer, series = listing(make_series(1))

    def unknown(event):
        yield None, None

    port = peer([(evt.EVT_C_FIND, answer), (evt.EVT_C_MOVE, unknown)])
    server = client(port, listen="127.0.0.1:0")
    with pytest.raises(ServerError, match="refused the retrieval: status 0xa801"):
        fetch_series(server, series, tmp_path / "out", patience=FAST)


def test_refused_files_are_named_and_the_others_sent(peer, make_series):
    paths = make_series(3)
    second = pydicom.dcmread(paths[1]).SOPInstanceUID
    taken = []

    def store(event):
        if event.request.AffectedSOPInstanceUID == second:
            return 0xA900
        taken.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    port = peer([(evt.EVT_C_STORE, store), (evt.EVT_C_FIND, lambda event: iter(()))])
    with pytest.raises(ServerError, match=rf"refused 1 of 3 .*{paths[1]}: status 0xa900"):
        push_files(client(port), paths, patience=FAST)
    assert len(taken) == 2


def test_a_push_to_a_peer_that_goes_away_is_resumed(peer, make_series):
    paths = make_series(4)
    taken = []

    def store(event):
        if len(taken) == 2 and not left:
            left.append(True)
            event.assoc.abort()
            return 0xA700
        taken.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    left = []
    port = peer([(evt.EVT_C_STORE, store), (evt.EVT_C_FIND, lambda event: iter(()))])
    pushed = push_files(client(port), paths, patience=FAST)
    assert taken == [str(pydicom.dcmread(path).SOPInstanceUID) for path in paths]
    assert [instance.uid for instance in pushed.sent] == taken


def test_a_peer_that_only_stores_gets_everything(make_series):
    """A storage server need not be searchable."""
    taken = []
    entity = AE("PEER")
    entity.add_supported_context(CTImageStorage, [ImplicitVRLittleEndian])

    def store(event):
        taken.append(pydicom.dcmread(io.BytesIO(event.encoded_dataset())))
        return 0x0000

    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        paths = make_series(2)
        pushed = push_files(client(server.socket.getsockname()[1]), paths, patience=FAST)
    finally:
        server.shutdown()
    assert len(pushed.sent) == 2
    # It knows the default transfer syntax only; what is sent is the same.
    assert taken == [pydicom.dcmread(path) for path in paths]
    assert {one.file_meta.TransferSyntaxUID for one in taken} == {ImplicitVRLittleEndian}


def test_compressed_files_are_not_decompressed_unasked(peer, make_series):
    (path,) = make_series(1)
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    port = peer([(evt.EVT_C_STORE, lambda event: 0x0000), (evt.EVT_C_FIND, lambda _: iter(()))])
    with pytest.raises(ServerError, match="does not take CT Image Storage in RLE Lossless"):
        push_files(client(port), [path], patience=FAST)
