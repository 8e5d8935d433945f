"""De-identification by the Basic Application Confidentiality Profile (PS3.15, Annex E).

Which attribute is removed, emptied or replaced is the standard's table E.1-1 as `dicom-anonymizer`
carries it, and so are most dummy values. That package looks at the top level only and empties the
references of segmentations to their images; here the table reaches into every sequence, UIDs are
replaced by keyed pseudonyms, the same in every file, the patient's name and number are also looked
for where the table does not, and the result says what was done to it.

The profile leaves pixels, coded values, numbers and free text of a few attributes (labels of
segments, for example) as they are. Faces in images of a head stay recognisable.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volseg.errors import InputError, MissingPackageError
from volseg.pacs.part10 import damage, files_of, instance_in, read_dataset, write_dataset
from volseg.pacs.pseudonyms import Pseudonyms
from volseg.pacs.query import is_uid
from volseg.pacs.server import Instance

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

logger = logging.getLogger(__name__)

_TABLE = "dicomfields_2026c"  # the newest edition of the standard in dicom-anonymizer
_DUMMY = "ANONYMIZED"
_TEXTS = ("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
_DUMMY_TIMES = {"DA": "19000101", "DT": "19000101000000", "TM": "000000"}
_EMPTYING = ("empty", "delete_or_empty")
_ACQUISITION_CONTEXT = (0x0040, 0x0555)
_PROCEDURE_STEP = (0x0008, 0x1111)
_SHORT_TEXTS = ("AE", "SH")  # 16 characters at most
_OVERLAYS_AND_CURVES = (0x5000, 0x6000)
_SHORTEST_TELLING = 4
# UIDs in attributes of these names say of what kind something is, not which one it is.
_KINDS = re.compile("Class|TransferSyntax|CodingScheme|Creator|MappingResource|ContextUID")
# SOP classes whose pixels, or whose whole content, are text by design.
_DOCUMENTS = "1.2.840.10008.5.1.4.1.1.104."
_WRITTEN_ON = (  # and what is below them
    "1.2.840.10008.5.1.4.1.1.3",  # Ultrasound Multi-frame
    "1.2.840.10008.5.1.4.1.1.6",  # Ultrasound
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
)

Action = Callable[["Dataset", tuple[int, int]], None]


class Anonymizer:
    """Takes out of DICOM objects what tells who the patient is.

    Args:
        key: secret of the pseudonyms; objects that refer to each other must get the same.
        pixels_checked: the caller vouches that no text is burnt into the pixels, of objects whose
            header says that it is, or of kinds in which it often is.

    Raises:
        MissingPackageError: if dicom-anonymizer is not installed.
    """

    def __init__(self, key: bytes, *, pixels_checked: bool = False) -> None:
        self._pseudonyms = Pseudonyms(key)
        self._pixels_checked = pixels_checked
        _actions()

    def new_uid(self, uid: str) -> str:
        """Return the UID that takes the place of another."""
        return self._pseudonyms.uid(uid)

    def new_name(self, name: str) -> str:
        """Return the name that takes the place of that of a case; a UID becomes its new UID."""
        is_series = "." in name and is_uid(name)
        return self.new_uid(name) if is_series else self._pseudonyms.case(name)

    def new_instance(self, instance: Instance) -> Instance:
        """Return what an instance is called afterwards."""
        return replace(
            instance,
            study=self.new_uid(instance.study),
            series=self.new_uid(instance.series),
            uid=self.new_uid(instance.uid),
        )

    def anonymize(self, dataset: Dataset, *, source: str = "") -> Dataset:
        """Return the dataset without what tells who the patient is; it is changed in place.

        Args:
            dataset: with its file meta information.
            source: where it is from, for errors.

        Raises:
            InputError: if text may be burnt into its pixels, or it is a document as a whole.
        """
        source = source or f"the instance {dataset.get('SOPInstanceUID')}"
        # Rules on values that a file breaks are no reason to leave it as it is.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.require_possible(dataset, source)
            name, number = (str(dataset.get(key) or "") for key in ("PatientName", "PatientID"))
            # Patients without a number stay apart, too.
            patient = number or name or str(dataset.get("StudyInstanceUID"))
            replaced: set[str] = set()
            _remove_unknown(dataset)
            self._clean(dataset, replaced)
            self._clean_elsewhere(dataset, name, number, replaced)
            dataset.PatientID = dataset.PatientName = self._pseudonyms.patient(patient)
            _say_what_was_done(dataset)
            _renew_file_meta(dataset)
        return dataset

    def write_copy(self, path: Path, target: Path) -> None:
        """Write a file without what tells who the patient is; it is whole or not there.

        Raises:
            InputError: if it is damaged, or cannot be anonymized.
            OutputError: if it cannot be written.
        """
        write_dataset(self.anonymize(read_dataset(path), source=str(path)), target)

    def require_possible(self, dataset: Dataset, source: str) -> None:
        """Refuse what the profile does not clean; the header is enough to tell.

        Raises:
            InputError: if text may be burnt into the pixels, or it is a document as a whole.
        """
        kind = str(dataset.get("SOPClassUID") or "")
        if kind.startswith(_DOCUMENTS):
            raise InputError(f"{source} is a document, which cannot be anonymized: leave it out.")
        burnt_in = str(dataset.get("BurnedInAnnotation") or "").upper()
        written_on = any(kind == one or kind.startswith(f"{one}.") for one in _WRITTEN_ON)
        if self._pixels_checked or burnt_in == "NO" or not (burnt_in == "YES" or written_on):
            return
        found = "says that text is burnt into its pixels" if burnt_in == "YES" else "may have it"
        raise InputError(
            f"{source} {found} (a name, for example), which the basic profile does not take out: "
            "leave it out, or state with --pixels-checked that there is none."
        )

    def _clean(self, dataset: Dataset, replaced: set[str]) -> None:
        actions = _actions()
        for tag in list(dataset.keys()):
            action = actions.get((tag.group, tag.element))
            if action is not None:
                _apply(action, dataset, (tag.group, tag.element))
            if tag not in dataset:
                continue
            element = dataset[tag]
            if element.VR == "SQ":
                for item in element.value:
                    self._clean(item, replaced)
            elif element.VR == "UI" and (action is not None or not _KINDS.search(element.keyword)):
                self._renew(element, replaced)

    def _renew(self, element: DataElement, replaced: set[str]) -> None:
        """Replace the UIDs of an element, and note the old ones."""
        old = [str(uid) for uid in _values(element)]
        new = [self.new_uid(uid) for uid in old]
        replaced.update(uid for uid, other in zip(old, new, strict=True) if uid != other)
        element.value = new if len(new) != 1 else new[0]

    def _clean_elsewhere(
        self, dataset: Dataset, name: str, number: str, replaced: set[str]
    ) -> None:
        """Replace name and number of the patient, and old UIDs, where the table does not look."""
        pattern = _pattern_of(name, number)
        for element in _elements(dataset):
            if element.VR == "UI" and replaced.intersection(map(str, _values(element))):
                self._renew(element, replaced)
            elif element.VR in _TEXTS and pattern is not None:
                texts = [str(value) for value in _values(element)]
                if any(pattern.search(text) for text in texts):
                    short = element.VR in _SHORT_TEXTS
                    texts = [_DUMMY if short else pattern.sub(_DUMMY, text) for text in texts]
                    element.value = texts if len(texts) != 1 else texts[0]
                    logger.info("%s told who the patient is", element.name)


@dataclass(frozen=True)
class Anonymized:
    """What became of the files of an anonymization.

    Attributes:
        written: the new files.
        refused: the files of which there is no new one, and why.
    """

    written: tuple[Path, ...]
    refused: dict[Path, str]


def anonymize_files(
    inputs: Iterable[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    anonymizer: Anonymizer,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Anonymized:
    """Write anonymized copies of DICOM files, `<new series UID>/<new SOP Instance UID>.dcm`.

    Names of files and folders often tell a patient's name, so none is kept. What cannot be
    anonymized is left out and listed; a copy that is there already, whole, is written again.

    Args:
        inputs: DICOM files, and folders of them at any depth.
        folder: where the copies are written; it may lie within an input, and is not read then.
        anonymizer: how.
        progress: called with the number of files done and of all.

    Raises:
        InputError: if an input is missing, is the folder of the copies, or there is no DICOM file.
        OutputError: if a copy cannot be written.
    """
    sources, target = [Path(path) for path in inputs], Path(folder)
    if any(source.resolve() == target.resolve() for source in sources):
        raise InputError(
            f"the copies would lie among the files in {target} and be anonymized again the next "
            "time: give another folder with --output, which may be one within it."
        )
    paths = list(files_of(sources, without=target))
    if not paths:
        raise InputError("there is no DICOM file in what was given.")
    written: dict[Path, None] = {}
    refused: dict[Path, str] = {}
    for number, path in enumerate(paths, 1):
        try:
            if (found := damage(path)) is not None:
                raise InputError(found)
            instance = anonymizer.new_instance(instance_in(path))
            copy = target / instance.series / f"{instance.uid}.dcm"
            if copy in written:
                raise InputError("another of the files is the same instance.")
            anonymizer.write_copy(path, copy)
            written[copy] = None
        except InputError as error:
            refused[path] = str(error)
        if progress is not None:
            progress(number, len(paths))
    return Anonymized(tuple(written), refused)


def _remove_unknown(dataset: Dataset) -> None:
    """Remove, at any depth, what may say anything.

    Private elements, overlays, curves, and values that nobody can read, such as of a wrong length.
    """
    for tag in list(dataset.keys()):
        if tag.is_private or tag.group & 0xFF00 in _OVERLAYS_AND_CURVES:
            del dataset[tag]
            continue
        try:
            element = dataset[tag]
        except Exception:  # pydicom raises many types
            logger.info("%s is removed: its value is not of its type", tag)
            del dataset[tag]
            continue
        if element.VR == "SQ":
            for item in element.value:
                _remove_unknown(item)


def _pattern_of(name: str, number: str) -> re.Pattern[str] | None:
    """Return what finds a patient in free text: by number, whole name, or a longer part of it.

    `Doe^Jane` is found as "DOE JANE", "Jane Doe", "doe_jane" and "Jane"; three letters alone mean
    other things too often.
    """
    texts = [re.escape(number)] if len(number) >= _SHORTEST_TELLING else []
    for group in name.split("="):  # in letters, ideograms and sounds
        parts = [re.escape(part) for part in re.split(r"[\^\s,]+", group) if part]
        if sum(map(len, parts)) >= _SHORTEST_TELLING:
            texts += [r"[\W_]+".join(order) for order in (parts, parts[1:] + parts[:1])]
        texts += [part for part in parts if len(part) >= _SHORTEST_TELLING]
    if not texts:
        return None
    pattern = rf"(?<![^\W_])(?:{'|'.join(texts)})(?![^\W_])"
    if len(number) >= _SHORTEST_TELLING and number.isdecimal():
        pattern += rf"|(?<!\d){number}(?!\d)"  # letters may stand beside it: "MRN12345"
    return re.compile(pattern, re.IGNORECASE)


@functools.cache
def _actions() -> dict[tuple[int, int], Action]:
    """Return what table E.1-1 says about each attribute, as functions of dataset and tag."""
    try:
        from dicomanonymizer import simpledicomanonymizer as library  # noqa: PLC0415 - optional
        from dicomanonymizer.dicomfields_selector import (  # noqa: PLC0415
            dicom_anonymization_database_selector,
        )
    except ImportError as error:
        raise MissingPackageError("anonymizing", "dicom-anonymizer", "pacs") from error
    columns = dicom_anonymization_database_selector(_TABLE)
    actions = dict(library.initialize_actions(_TABLE))
    actions.update(dict.fromkeys(map(tuple, columns["X_TAGS"]), _remove))
    # The references in them get new UIDs, so that they lead to the new images.
    actions.update(dict.fromkeys(map(tuple, columns["X_Z_U_STAR_TAGS"]), _keep))
    # Rows with masks are overlays and curves, which go as a whole.
    return {tag: action for tag, action in actions.items() if len(tag) == 2}


def _remove(dataset: Dataset, tag: tuple[int, int]) -> None:
    del dataset[tag]


def _keep(dataset: Dataset, tag: tuple[int, int]) -> None:
    """Leave an attribute, but not what is in its items."""


def _apply(action: Action, dataset: Dataset, tag: tuple[int, int]) -> None:
    element = dataset[tag]
    if action in (_remove, _keep):
        action(dataset, tag)
    elif element.VR == "UI":
        return  # the anonymizer knows by what it is replaced
    elif element.VR == "SQ":
        _apply_to_sequence(action, dataset, tag)
    elif element.VR in _DUMMY_TIMES:
        # The library's day in the year 1 is none for other programs.
        element.value = None if action.__name__ in _EMPTYING else _DUMMY_TIMES[element.VR]
    else:
        try:
            action(dataset, tag)
        except NotImplementedError:  # no dummy for this kind of value
            del dataset[tag]


def _apply_to_sequence(action: Action, dataset: Dataset, tag: tuple[int, int]) -> None:
    """Empty a sequence, or remove it, or put dummies into it, as its type allows."""
    if action.__name__ == "replace":  # D
        _replace_texts(dataset[tag].value)
    elif action.__name__ == "empty" or (  # Z
        # X where it may be left out, else Z: type 2 in enhanced images, and in reports.
        tag == _ACQUISITION_CONTEXT or (tag == _PROCEDURE_STEP and dataset.get("Modality") == "SR")
    ):
        dataset[tag].value = []
    else:
        del dataset[tag]


def _replace_texts(items: Iterable[Dataset]) -> None:
    """Replace free text in items, at any depth; codes and numbers stay."""
    for item in items:
        for element in item:
            if element.VR == "SQ":
                _replace_texts(element.value)
            elif element.VR in _TEXTS and "CodeMeaning" not in item:
                element.value = _DUMMY


def _say_what_was_done(dataset: Dataset) -> None:
    """Set the attributes that PS3.15, E.1.1 asks for."""
    from pydicom import Dataset  # noqa: PLC0415 - an optional package

    profile = Dataset()
    profile.CodeValue = "113100"
    profile.CodingSchemeDesignator = "DCM"
    profile.CodeMeaning = "Basic Application Confidentiality Profile"
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"volseg {version('volseg')}"
    dataset.DeidentificationMethodCodeSequence = [profile]
    dataset.LongitudinalTemporalInformationModified = "REMOVED"


def _renew_file_meta(dataset: Dataset) -> None:
    """Keep of preamble and file meta information what is needed to read the file."""
    from pydicom.dataset import FileMetaDataset  # noqa: PLC0415 - an optional package

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    dataset.file_meta = meta
    dataset.preamble = None


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)
        else:
            yield element


def _values(element: DataElement) -> Iterable[Any]:
    if element.value in (None, ""):
        return ()
    return element.value if element.VM > 1 else (element.value,)
