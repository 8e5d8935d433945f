"""What goes over the wire in ``/v1``, as pydantic models: the OpenAPI is made of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ResultFormat = Literal["nifti", "dicom-seg", "dicom-labelmap", "rtstruct", "sr"]
State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: frozenset[State] = frozenset({"done", "failed", "cancelled"})


class Problem(BaseModel):
    """Why a request was refused: one sentence."""

    detail: str


class Health(BaseModel):
    """That the server is there, and how busy it is."""

    status: Literal["ok"] = "ok"
    version: str = Field(description="of volseg")
    devices: list[str] = Field(description="one process computes on each")
    queued: int = Field(description="jobs that wait")
    running: int = Field(description="jobs that are being computed")


class CodedTerm(BaseModel):
    """A term of a coding scheme, such as SNOMED CT."""

    value: str
    scheme: str
    meaning: str


class SegmentDescription(BaseModel):
    """What a label stands for in DICOM (PS3.3 C.8.20.4)."""

    value: int
    category: CodedTerm
    type: CodedTerm
    modifiers: list[CodedTerm]
    regions: list[CodedTerm]


class BundleDescription(BaseModel):
    """A bundle that this server can segment with."""

    name: str
    version: str
    task: str
    description: str
    spatial_dims: int = Field(description="2 for pictures, 3 for volumes")
    channels: list[str] = Field(description="names of the image channels, in order")
    labels: dict[str, int] = Field(description="value of each class in the label map")
    segments: dict[str, SegmentDescription] = Field(description="codes of each class")
    colors: dict[str, tuple[int, int, int]] = Field(description="red, green, blue, 0 to 255")


class JobOptions(BaseModel):
    """How an image is read and which results are made."""

    model_config = ConfigDict(extra="forbid")

    formats: Annotated[
        list[ResultFormat],
        Field(min_length=1, description="DICOM formats need DICOM images; sr needs a DICOM SEG"),
    ] = ["nifti"]
    stable_uids: bool = Field(False, description="same image and bundle give the same DICOM files")
    orientation: str | None = Field(
        None, description="axis codes such as RAS, for files that state none"
    )
    series: str | dict[str, str] | None = Field(
        None, description="Series Instance UID, of several; of channels, by name"
    )
    irregular: Literal["resample"] | None = Field(
        None, description="resample slices at unequal distances, which are refused else"
    )
    orthogonal: bool = Field(False, description="resample tilted slices at right angles")
    suv: bool | dict[str, bool] = Field(
        False, description="turn PET into standardised uptake values; of channels, by name"
    )
    onto_first: bool = Field(
        False, description="resample channels on other grids onto that of the first"
    )


class Progress(BaseModel):
    """How far a running job is, in tiles; 0 of 0 before that is known."""

    done: int = 0
    total: int = 0


class JobStatus(BaseModel):
    """A job as its client sees it."""

    id: str = Field(description="names the job in the other calls")
    bundle: str
    state: State
    progress: Progress
    error: str | None = Field(None, description="one sentence, if it failed")
    formats: list[ResultFormat] = Field(description="that the result has, once it is done")
    created: float = Field(description="seconds since 1970, like the next ones")
    started: float | None = None
    ended: float | None = None
    expires: float | None = Field(None, description="when it will be removed at the latest")
