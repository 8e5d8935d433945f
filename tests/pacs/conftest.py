"""A real Orthanc on the loopback, servers that misbehave, and small series made on the spot."""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import os
import random
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from tests.absence import report_absence
from volseg.errors import ServerError
from volseg.pacs import Connection, Credentials, Tls, open_server, parse_address

_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_START_SECONDS = 60
USER, PASSWORD = "tester", "geheim-ü"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Do not blame the test at hand for sockets that pynetdicom left behind.

    It leaves those of connections that failed to the garbage collector, which comes when it likes.
    """
    ignored = "ignore:Exception ignored in. <(socket|ssl):pytest.PytestUnraisableExceptionWarning"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(ignored))


@pytest.fixture
def _collected() -> Iterator[None]:
    """Have them collected at the end of a test, so that they reach no test elsewhere."""
    yield
    gc.collect()


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: basic authentication on HTTP; it knows VOLSEG at `move_port`."""

    http_port: int
    dicom_port: int
    move_port: int
    folder: Path
    encrypted: bool = False  # DIMSE only

    @property
    def dicomweb(self) -> str:
        return f"dicomweb://127.0.0.1:{self.http_port}/dicom-web"

    @property
    def dimse(self) -> str:
        return f"dimse{'s' * self.encrypted}://ORTHANC@127.0.0.1:{self.dicom_port}"

    def rest(self, path: str, data: bytes | None = None):
        """Ask Orthanc's own interface, which none of the code under test uses."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data)
        secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {secret}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def store(self, path: Path) -> None:
        self.rest("/instances", path.read_bytes())

    def stored(self, uid: str) -> bytes | None:
        """The file of an instance as Orthanc has it."""
        found = json.loads(self.rest("/tools/lookup", uid.encode()))
        ids = [one["ID"] for one in found if one["Type"] == "Instance"]
        return self.rest(f"/instances/{ids[0]}/file") if ids else None


def free_port() -> int:
    """A port below those that outgoing connections take, so that it stays free until it is used."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            port = random.randrange(20_000, 32_000)
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="session")
def orthanc(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    """Orthanc with its DICOMweb plugin; Debian: `apt-get install orthanc orthanc-dicomweb`."""
    server = Orthanc(free_port(), free_port(), free_port(), tmp_path_factory.mktemp("orthanc"))
    settings = {
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "DicomModalities": {"volseg": ["VOLSEG", "127.0.0.1", server.move_port]},
    }

    def is_up() -> None:
        server.rest("/system")
        socket.create_connection(("127.0.0.1", server.dicom_port), timeout=5).close()

    with running(server, settings, request.config, is_up):
        yield server


@pytest.fixture(scope="session")
def encrypted(
    certificate: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    """Orthanc that lets in who has the certificate, over DIMSE (Debian's HTTPS crashes on it)."""
    folder = tmp_path_factory.mktemp("encrypted")
    server = Orthanc(free_port(), free_port(), free_port(), folder, encrypted=True)
    cert, key = str(certificate / "cert.pem"), str(certificate / "key.pem")
    this_side = {"AET": "VOLSEG", "Host": "127.0.0.1", "Port": server.move_port}
    settings = {
        "AuthenticationEnabled": False,
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": cert,
        "DicomTlsPrivateKey": key,
        "DicomTlsTrustedCertificates": cert,
        "DicomTlsRemoteCertificateRequired": True,
        "DicomModalities": {"volseg": this_side | {"UseDicomTls": True}},
    }
    tls = Tls(cert, cert, key)

    def is_up() -> None:
        open_server(parse_address(server.dimse), Connection(tls=tls)).echo()

    with running(server, settings, request.config, is_up):
        yield server


@contextlib.contextmanager
def running(
    server: Orthanc,
    settings: dict[str, object],
    config: pytest.Config,
    is_up: Callable[[], None],
) -> Iterator[None]:
    """Run Orthanc while the block does, which begins once `is_up` raises nothing."""
    program = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None or not _PLUGIN.is_file():
        reason = "Orthanc is not installed: apt-get install orthanc orthanc-dicomweb"
        report_absence(config, reason)
    folder = server.folder
    usual = {
        "Name": "ORTHANC",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": server.http_port,
        "DicomPort": server.dicom_port,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "RemoteAccessAllowed": False,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "OverwriteInstances": True,
        "Plugins": [str(_PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(usual | settings))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [program, str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _wait_for(is_up, process, folder / "log.txt")
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for localhost, signed by itself: cert.pem and key.pem."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed: no certificate can be made")
    folder = tmp_path_factory.mktemp("tls")
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=localhost", "-addext"]
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([program, *words, names, *files], check=True, capture_output=True)
    return folder


def _wait_for(is_up: Callable[[], None], process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return is_up()
        except (OSError, ServerError):
            time.sleep(0.1)
    pytest.fail(f"Orthanc did not start: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture(params=["dicomweb", "get", "move"])
def server(request: pytest.FixtureRequest, orthanc: Orthanc):
    """Orthanc through each of the ways to retrieve."""
    if request.param == "dicomweb":
        connection = Connection(credentials=Credentials(user=USER, password=PASSWORD))
        return open_server(parse_address(orthanc.dicomweb), connection)
    listen = f"127.0.0.1:{orthanc.move_port}" if request.param == "move" else None
    return open_server(parse_address(orthanc.dimse), Connection(listen=listen))


@pytest.fixture
def make_series(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write a small axial CT series with new UIDs; returns its files in the order of the slices."""

    def make(slices: int = 5, **values: object) -> list[Path]:
        study, series, frame = (generate_uid() for _ in range(3))
        folder = tmp_path / f"made_{series[-8:]}"
        folder.mkdir()
        noise = np.random.default_rng(slices)
        paths = []
        for number in range(slices):
            dataset = pydicom.Dataset()
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
            uid = generate_uid()
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
            dataset.SpecificCharacterSet = "ISO_IR 192"
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
            dataset.FrameOfReferenceUID = frame
            dataset.Modality = "CT"
            dataset.PatientName, dataset.PatientID = "Müller^Änne", f"P{study[-10:]}"
            dataset.PatientBirthDate, dataset.PatientSex = "19500102", "F"
            dataset.StudyDate, dataset.StudyTime = "20260131", "120000"
            dataset.AccessionNumber, dataset.StudyID = "A77", "1"
            dataset.SeriesDescription = "thorax"
            dataset.SeriesNumber, dataset.InstanceNumber = 1, number + 1
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            dataset.ImagePositionPatient = [-10.5, 20.25, 2.5 * number]
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            dataset.PixelSpacing = [0.75, 0.5]
            dataset.SliceThickness = 2.5
            dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 12, 16, 1
            dataset.BitsAllocated = dataset.BitsStored = 16
            dataset.HighBit, dataset.PixelRepresentation = 15, 1
            dataset.PhotometricInterpretation = "MONOCHROME2"
            dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
            dataset.PixelData = noise.integers(0, 2000, (12, 16), np.int16).tobytes()
            for keyword, value in values.items():
                setattr(dataset, keyword, value)
            paths.append(folder / f"{number:03}.dcm")
            dataset.save_as(paths[-1], enforce_file_format=True)
        return paths

    return make


@pytest.fixture
def http_server() -> Iterator[Callable[..., str]]:
    """Start servers on the loopback whose every answer is the test's; returns their addresses."""
    running: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        httpd.daemon_threads = True
        running.append(httpd)
        threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return f"dicomweb://127.0.0.1:{httpd.server_port}/root"

    yield start
    for httpd in running:
        httpd.shutdown()
        httpd.server_close()
