"""``volseg segment``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from volseg.cli import pacs_options
from volseg.cli.case_progress import ProgressKind, case_progress
from volseg.cli.channel_options import NamedCase, named_case
from volseg.cli.console import errors, output, print_json
from volseg.cli.inference_options import Inference, inference
from volseg.cli.option_groups import given
from volseg.cli.reading_options import reading
from volseg.cli.result_options import Results, results
from volseg.cli.segment_case import CaseRunner
from volseg.cli.segment_inputs import described, find_cases, require_images_kept
from volseg.cli.segment_remote import Transfer, require_pushable, transfer

if TYPE_CHECKING:
    from volseg.io import ReadingOptions
    from volseg.pacs import Anonymizer, Connection


@given(
    channels=named_case,
    results=results,
    inference=inference,
    reading=reading,
    transfer=transfer,
    connection=pacs_options.connection,
    anonymizer=pacs_options.anonymizer_if_wanted,
)
def segment(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Images, folders of images, DICOM folders, or series on servers: see volseg pacs.",
        ),
    ] = None,
    *,
    channels: NamedCase,
    results: Results,
    inference: Inference,
    reading: ReadingOptions,
    transfer: Transfer,
    connection: Connection,
    anonymizer: Anonymizer | None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
    progress: Annotated[
        ProgressKind,
        typer.Option(help="auto: bars on a terminal; lines: JSON on standard error; none."),
    ] = ProgressKind.AUTO,
) -> None:
    """Segment images; writes OUT/<case>_seg.nii.gz (2D images: _seg.png) on the source grid.

    Of several files that are the channels of one image, each is named: --channel t1=t1.nii.gz.
    Beside it OUT/<case>_record.json: statistics, what stands out, how it was made.
    Of DICOM series also, or instead, OUT/<case>_seg.dcm, _labelmap.dcm, _probabilities.dcm,
    _rtstruct.dcm, _sr.dcm and _preview.dcm.
    Results of another image or series under the same name are not replaced: that case fails.

    With --anonymize no result says who the patient is, and cases get new names, the same in every
    run: of a name that is a UID the new UID, of others CASE-...; only what is printed says which.

    With --progress lines standard error has a JSON object a line, with a case and a stage: loading,
    fetching, segmenting (done and total), and in the end done, skipped or failed (output or error).
    Lines that are no JSON are for people. The run ends when nobody reads them any more.

    Exit code 0: all cases done; 1: some case failed; 2: nothing could be used.
    """
    rows: list[dict[str, Any]] = []
    with case_progress(progress) as shown:
        cases = find_cases(inputs or [], channels, inference.bundle(), connection)
        segmenter = inference.segmenter()
        results.require_possible(segmenter)
        if transfer.push is not None:
            sources, anonymized = map(described, cases.values()), anonymizer is not None
            require_pushable(transfer.push, sources, results.formats, anonymized=anonymized)
        if anonymizer is not None:
            cases = {anonymizer.new_name(case): source for case, source in cases.items()}
        require_images_kept(cases, results, segmenter)
        shown.expect(len(cases))
        runner = CaseRunner(segmenter, reading, results, transfer, connection, anonymizer, shown)
        for case, source in cases.items():
            row = runner.run(case, source)
            rows.append(row)
            shown.ended(row)
            if row["status"] == "done" and not as_json:
                output.print(f"{case}: {row['output']}", soft_wrap=True, markup=False)
    if as_json:
        print_json(rows)
    elif skipped := sum(row["status"] == "skipped" for row in rows):
        errors.print(f"{skipped} of {len(rows)} cases were done before.")
    if results.statistics:
        results.write_statistics()
    failed = [row for row in rows if row["status"] == "failed"]
    if failed:
        unusable = len(failed) == len(rows) and all(row["unusable_input"] for row in failed)
        raise typer.Exit(2 if unusable else 1)
