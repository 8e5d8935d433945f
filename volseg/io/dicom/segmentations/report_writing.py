"""Writing of measurements of segments as a structured report (DICOM PS3.16, TID 1500)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from volseg.atomic import replacing
from volseg.errors import InputError
from volseg.io.dicom.segmentations.concepts import concept, standard_concept
from volseg.io.dicom.segmentations.identity import (
    MANUFACTURER,
    Algorithm,
    Identity,
    derived_uid,
    identity_of,
    made_by,
)
from volseg.io.dicom.segmentations.making import making
from volseg.io.dicom.segmentations.measurements import SegmentMeasurements
from volseg.io.dicom.segmentations.segments import Segment
from volseg.io.dicom.segmentations.source import SourceSlices

# What intensities measure, if there is a code for it, and their unit.
Quantity = tuple[Any | None, Any]

SERIES_NUMBER = 9003
_STATISTICS = {
    "mean": "Mean",
    "standard_deviation": "StandardDeviation",
    "minimum": "Minimum",
    "maximum": "Maximum",
    "median": "Median",
}
_PROCEDURES = {
    "CT": "CTUnspecifiedBodyRegion",
    "MR": "MRIUnspecifiedBodyRegion",
    "PT": "PETUnspecifiedBodyRegion",
}


def write_measurement_report(
    measurements: Sequence[SegmentMeasurements],
    path: str | os.PathLike[str],
    *,
    segmentation: Any,
    source: SourceSlices,
    segments: Sequence[Segment],
    algorithm: Algorithm | None = None,
    suv: bool = False,
    stable: bool = False,
) -> Any:
    """Write volumes and intensity statistics of segments as DICOM SR, and return its dataset.

    Intensities of CT are Hounsfield units where the series says so, of PET Bq/ml or SUV; others
    have no unit.

    Args:
        measurements: one for each segment, of true values of the source, or of SUV.
        path: of the file, `.dcm`.
        segmentation: pydicom dataset of the DICOM SEG of these segments, to which the report
            refers.
        source: the series.
        segments: what is measured; each gets a group of measurements, also without voxels.
        algorithm: what made the labels; without it they are of unknown origin.
        suv: whether intensities are SUV by body weight (g/ml) that were computed of the series.
        stable: whether the same measurements of the same source by the same algorithm give the
            same file, with the same UIDs; its times are those of the source.

    Raises:
        InputError: if a segment is not measured, or not described in the SEG.
        OutputError: if writing fails; nothing half-written is left.
        MissingPackageError: if highdicom is not installed.
    """
    held = {int(item.SegmentNumber) for item in segmentation.SegmentSequence}
    by_number = {one.number: one for one in measurements}
    for segment in segments:
        if segment.number not in held:
            raise InputError(
                f"the DICOM SEG describes no segment {segment.number} ({segment.name}); give the "
                "one that was written of these segments."
            )
        if segment.number not in by_number:
            raise InputError(f"the segment {segment.number} ({segment.name}) is not measured.")
    measured = [by_number[segment.number] for segment in segments]
    about = repr((list(segments), algorithm, measured, suv)).encode()
    content = (b"report", str(segmentation.SOPInstanceUID).encode(), about)
    identity = identity_of(content, source.headers, stable=stable)
    with making("DICOM SR", source):
        quantity = _quantity(source.headers[0], suv=suv)
        dataset = _report(
            measured,
            segmentation,
            source,
            segments,
            quantity=quantity,
            algorithm=algorithm,
            identity=identity,
        )
    identity.stamp(dataset)
    with replacing(path) as temporary:
        dataset.save_as(temporary)
    return dataset


def _report(
    measured: Sequence[SegmentMeasurements],
    segmentation: Any,
    source: SourceSlices,
    segments: Sequence[Segment],
    *,
    quantity: Quantity,
    algorithm: Algorithm | None,
    identity: Identity,
) -> Any:
    from highdicom import sr  # noqa: PLC0415

    groups = [
        _group(
            segment,
            _measurements(one, *quantity),
            segmentation,
            source,
            segment.algorithm or algorithm,
        )
        for segment, one in zip(segments, measured, strict=True)
    ]
    report = sr.MeasurementReport(
        observation_context=_observation_context(algorithm),
        procedure_reported=_procedure(source),
        imaging_measurements=groups,
        title=standard_concept("DCM", "ImagingMeasurementReport"),
    )
    return sr.Comprehensive3DSR(
        evidence=[segmentation, *source.headers],
        content=report[0],
        series_instance_uid=identity.uid("series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        series_description="Measurements of segments",
        specific_character_set="ISO_IR 192",
    )


def _group(
    segment: Segment,
    measurements: Sequence[Any],
    segmentation: Any,
    source: SourceSlices,
    algorithm: Algorithm | None,
) -> Any:
    from highdicom import sr  # noqa: PLC0415

    (description,) = (
        item for item in segmentation.SegmentSequence if int(item.SegmentNumber) == segment.number
    )
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=description.TrackingUID, identifier=description.TrackingID
        ),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=segment.number,
            source_series=sr.SourceSeriesForSegmentation(source.headers[0].SeriesInstanceUID),
        ),
        finding_category=concept(segment.category),
        finding_type=concept(segment.type),
        finding_sites=[sr.FindingSite(concept(region)) for region in segment.regions] or None,
        algorithm_id=_identification(algorithm),
        measurements=measurements,
    )


def _identification(algorithm: Algorithm | None) -> Any:
    """Return name and version, both of which TID 4019 requires."""
    from highdicom import sr  # noqa: PLC0415

    if algorithm is None or not (algorithm.name and algorithm.version):
        return None
    return sr.AlgorithmIdentification(algorithm.name, algorithm.version)


def _measurements(measured: SegmentMeasurements, quantity: Any | None, unit: Any) -> list[Any]:
    from highdicom import sr  # noqa: PLC0415

    found = [
        sr.Measurement(
            name=standard_concept("SCT", "Volume"),
            value=_decimal(measured.volume),
            unit=standard_concept("UCUM", "CubicMillimeter"),
        )
    ]
    for attribute, statistic in _STATISTICS.items():
        value = getattr(measured, attribute)
        if value is None:
            continue
        name = standard_concept("SCT", statistic)
        found.append(
            sr.Measurement(
                name=quantity or name,
                value=_decimal(value),
                unit=unit,
                derivation=name if quantity else None,
            )
        )
    return found


def _quantity(header: Any, *, suv: bool) -> Quantity:
    """Return what the intensities measure, if there is a code for it, and their unit."""
    nothing = standard_concept("UCUM", "NoUnits")
    # Without a type, values that are stored as SUV are by body weight (PS3.3 C.8.9.1).
    stored_suv = header.get("Units") == "GML" and str(header.get("SUVType") or "BW") == "BW"
    if suv or (header.Modality == "PT" and stored_suv):
        return (
            standard_concept("DCM", "Suvbw"),
            standard_concept("UCUM", "StandardizedUptakeValueBodyWeight"),
        )
    if header.Modality == "CT" and str(header.get("RescaleType") or "HU") == "HU":
        attenuation = standard_concept("DCM", "AttenuationCoefficient")
        return attenuation, standard_concept("UCUM", "HounsfieldUnit")
    if header.Modality == "MR":
        return standard_concept("DCM", "MRSignalIntensity"), nothing
    if header.Modality == "PT" and header.get("Units") == "BQML":
        return None, standard_concept("UCUM", "BecquerelsPerMilliliter")
    return None, nothing


def _observation_context(algorithm: Algorithm | None) -> Any:
    from highdicom import sr  # noqa: PLC0415

    model, versions, _ = made_by(algorithm)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", model, *versions),
        name=f"{model}, {versions[0]}",
        manufacturer_name=MANUFACTURER,
        model_name=model,
    )
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(standard_concept("DCM", "Device"), device)
    )


def _procedure(source: SourceSlices) -> Any:
    name = _PROCEDURES.get(str(source.headers[0].Modality))
    return standard_concept("LN", name) if name else standard_concept("SCT", "ImagingProcedure")


def _decimal(value: float) -> float:
    """Round to the digits a decimal string of 16 characters holds."""
    return float(f"{value:.9g}")
