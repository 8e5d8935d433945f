"""Servers of DICOM objects: DICOMweb and DIMSE behind one protocol, as source and as target."""

from volseg.pacs.address import Address, is_address, parse_address
from volseg.pacs.anonymizing import Anonymized, Anonymizer, anonymize_files
from volseg.pacs.credentials import Credentials, read_secret
from volseg.pacs.fetching import fetch_series
from volseg.pacs.finding import find_one_series, find_series, list_instances
from volseg.pacs.opening import Connection, open_server
from volseg.pacs.part10 import is_part10
from volseg.pacs.pseudonyms import Pseudonyms, read_key
from volseg.pacs.pushing import Pushed, push_files
from volseg.pacs.query import FoundSeries, SeriesQuery
from volseg.pacs.retrying import Patience
from volseg.pacs.server import Instance, Outgoing, Server
from volseg.pacs.tls import Tls

__all__ = [
    "Address",
    "Anonymized",
    "Anonymizer",
    "Connection",
    "Credentials",
    "FoundSeries",
    "Instance",
    "Outgoing",
    "Patience",
    "Pseudonyms",
    "Pushed",
    "SeriesQuery",
    "Server",
    "Tls",
    "anonymize_files",
    "fetch_series",
    "find_one_series",
    "find_series",
    "is_address",
    "is_part10",
    "list_instances",
    "open_server",
    "parse_address",
    "push_files",
    "read_key",
    "read_secret",
]
