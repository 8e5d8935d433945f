"""The command line as a user meets it: help, errors, exit codes, nothing half-written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from volseg import __version__
from volseg.cli.main import main


def run(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    captured = capfd.readouterr()
    code = end.value.code
    return (0 if code is None else int(code)), captured.out, captured.err


def assert_one_sentence(errors: str) -> None:
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.strip()]
    assert len(lines) == 1, errors


@pytest.fixture
def image(tiny_bundle):
    return tiny_bundle.parent / "data" / "images" / "ball0.nii.gz"


def test_help_import_and_lists_of_bundles_load_neither_torch_nor_monai():
    script = (
        "import sys, volseg\n"
        "from volseg.cli.main import main\n"
        "for words in (['--help'], ['bundle', 'list'], ['bundle', 'recipes']):\n"
        "    try:\n        main(words)\n    except SystemExit as end:\n"
        "        assert end.code == 0\n"
        "heavy = {'torch', 'monai', 'SimpleITK', 'nibabel', 'numpy', 'scipy', 'pydicom',\n"
        "'pynetdicom', 'requests'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


def test_version(capfd):
    assert run(capfd, "--version")[:2] == (0, f"volseg {__version__}\n")


def test_segment_writes_label_map_and_preview_and_says_so(capfd, tmp_path, tiny_bundle, image):
    out = tmp_path / "out"
    code, text, _ = run(capfd, "segment", image, "-o", out, "-b", tiny_bundle, "--preview")
    assert code == 0
    assert str(out / "ball0_seg.nii.gz") in text
    assert sorted(path.name for path in out.iterdir()) == [
        "ball0_preview.png",
        "ball0_record.json",
        "ball0_seg.nii.gz",
    ]
    assert nib.load(out / "ball0_seg.nii.gz").get_data_dtype() == np.uint8


def test_segment_a_folder_as_json_and_skip_what_is_there(capfd, tmp_path, tiny_bundle, image):
    words = ("segment", image.parent, "-o", tmp_path / "out", "-b", tiny_bundle, "--json")
    code, text, _ = run(capfd, *words)
    assert code == 0
    rows = json.loads(text)
    assert [row["case"] for row in rows] == [f"ball{index}" for index in range(6)]
    assert {row["status"] for row in rows} == {"done"}
    assert {flag["code"] for row in rows for flag in row["flags"]} <= {"border", "present"}
    (tmp_path / "out" / "ball3_seg.nii.gz").unlink()
    code, text, _ = run(capfd, *words, "--skip-existing", "--statistics")
    assert sorted(row["status"] for row in json.loads(text)) == ["done"] + ["skipped"] * 5
    rows = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert [row["case"] for row in rows] == [f"ball{n // 2}" for n in range(12)]
    assert [row["name"] for row in rows[:2]] == ["anterior", "posterior"]
    assert (tmp_path / "out" / "statistics.csv").read_text().count("\n") == 13


def test_the_tables_are_of_all_cases_in_the_folder(capfd, tmp_path, tiny_bundle, image):
    balls = [image.with_name(f"ball{number}.nii.gz") for number in range(3)]
    words = ("-b", tiny_bundle, "--statistics", "-o")
    names = ("statistics.csv", "statistics.json")
    out, empty = tmp_path / "out", tmp_path / "empty"
    assert run(capfd, "segment", *balls[:2], *words, out)[0] == 0
    before = [(out / name).read_bytes() for name in names]
    fails = ("--memory", "10MB")
    assert run(capfd, "segment", *balls[:2], *words, out, *fails)[0] == 1
    assert [(out / name).read_bytes() for name in names] == before
    (out / "other_record.json").write_text("{}")
    code, _, told = run(capfd, "segment", *balls[1:], "--skip-existing", *words, out)
    assert code == 0
    assert "1 of 2 cases were done before." in told
    assert "not in the statistics: " in told
    rows = json.loads((out / "statistics.json").read_text())
    assert [row["case"] for row in rows] == [f"ball{n // 2}" for n in range(6)]
    assert run(capfd, "segment", balls[0], *words, empty, *fails)[0] == 1
    assert not any((empty / name).exists() for name in names)


def test_only_what_is_whole_and_of_the_same_bundle_and_settings_is_skipped(
    capfd, tmp_path, tiny_bundle, image
):
    words = ("-o", tmp_path / "out", "-b", tiny_bundle, "--json", "--skip-existing")
    words = (*words, "--backend", "torch")

    def status(*others: object) -> str:
        code, text, errors = run(capfd, "segment", image, *words, *others)
        assert code == 0, errors
        return json.loads(text)[0]["status"]

    maps = ("--uncertainty", "nii", "--mirror", "x", "--preview")
    assert [status(), status()] == ["done", "skipped"]
    assert [status(*maps), status(*maps), status("--mirror", "x")] == ["done", "skipped", "skipped"]
    for name in ("record.json", "disagreement.nii", "preview.png"):
        (tmp_path / "out" / f"ball0_{name}").unlink()
        assert status(*maps) == "done", name
    (tmp_path / "out" / "ball0_record.json").write_text("{")
    assert status(*maps) == "done"
    # The maps are not of this run, whose record says so.
    assert [status("--overlap", "0.25"), status("--overlap", "0.25")] == ["done", "skipped"]
    assert status("--overlap", "0.25", *maps) == "done"
    assert [status(), status()] == ["done", "skipped"]
    config = tiny_bundle / "configs" / "inference.yaml"
    config.write_text(config.read_text() + "\n")
    assert [status(), status()] == ["done", "skipped"]


def test_results_of_another_image_are_not_replaced(
    capfd, tmp_path, tiny_bundle, image, monkeypatch
):
    """Called the same: as the same path from another folder, or behind the same pseudonym."""
    out = tmp_path / "out"
    words = ("-o", out, "-b", tiny_bundle, "--json", "--backend", "torch")
    hidden = ("--anonymize", "--key", tmp_path / "key")
    scans = [tmp_path / name / "scan.nii.gz" for name in ("a", "b")]
    for number, scan in enumerate(scans):
        scan.parent.mkdir()
        image.with_name(f"ball{number}.nii.gz").rename(scan)

    def segmented(scan: Path, *others: object) -> tuple[int, str, str]:
        monkeypatch.chdir(scan.parent)
        return run(capfd, "segment", scan.name, *words, *others)

    for others in ((), hidden):
        assert segmented(scans[0], *others)[0] == 0
        before = {path: path.read_bytes() for path in out.iterdir()}
        for skipping in ((), ("--skip-existing",)):
            code, text, errors = segmented(scans[1], *others, *skipping)
            assert code == 2
            (row,) = json.loads(text)
            assert row["status"] == "failed"
            assert "give each image a folder of its own (-o)" in row["error"]
            assert row["error"] in errors
            assert {path: path.read_bytes() for path in out.iterdir()} == before
        _, text, _ = segmented(scans[0], *others, "--skip-existing")
        assert json.loads(text)[0]["status"] == "skipped"
    for record in out.glob("CASE-*_record.json"):
        assert "scan" not in record.read_text()

    assert f"those of {scans[0]}, not of {scans[1]}:" in segmented(scans[1])[2]
    (tmp_path / "link").symlink_to(scans[0].parent)
    assert run(capfd, "segment", tmp_path / "link" / "scan.nii.gz", *words)[0] == 0
    record = json.loads((out / "scan_record.json").read_text())
    record["settings"]["series"] = "1.2.3"
    (out / "scan_record.json").write_text(json.dumps(record))
    code, _, errors = segmented(scans[0])
    assert code == 2
    assert f"those of the series 1.2.3 of {tmp_path / 'link' / 'scan.nii.gz'}, not of" in errors


def test_results_beside_their_images_are_no_images(capfd, tmp_path, tiny_bundle, image):
    (tmp_path / "scans").mkdir()
    image.rename(tmp_path / "scans" / "a.nii.gz")
    image.with_name("ball1.nii.gz").rename(tmp_path / "scans" / "b_seg.nii.gz")
    words = ("segment", tmp_path / "scans", "-o", tmp_path / "scans", "-b", tiny_bundle, "--json")
    for status in ("done", "skipped"):
        code, text, errors = run(capfd, *words, "--preview", "--skip-existing")
        assert code == 0, errors
        assert [(row["case"], row["status"]) for row in json.loads(text)] == [
            *(("a", status), ("b_seg", status))
        ]


def test_an_image_is_not_replaced_by_the_results_of_another(capfd, tmp_path, tiny_bundle, image):
    """The label map of an expert is called as volseg calls its own."""
    scans, expert = tmp_path / "scans", tmp_path / "archive" / "expert.nii.gz"
    for folder in (scans, expert.parent):
        folder.mkdir()
    image.rename(scans / "a.nii.gz")
    image.with_name("ball1.nii.gz").rename(expert)
    link = scans / "a_seg.nii.gz"
    link.symlink_to(expert)
    before = {path.name: path.read_bytes() for path in scans.iterdir()}
    for inputs, image_lost in (([scans], link), ([scans / "a.nii.gz", expert], expert)):
        code, _, errors = run(capfd, "segment", *inputs, "-o", scans, "-b", tiny_bundle)
        assert code == 2
        assert f"the results of a would replace {image_lost}," in errors
        assert {path.name: path.read_bytes() for path in scans.iterdir()} == before
    words = ("segment", scans, "-o", tmp_path / "out", "-b", tiny_bundle, "--json")
    assert [row["case"] for row in json.loads(run(capfd, *words)[1])] == ["a", "a_seg"]


def test_a_run_that_fails_before_it_writes_leaves_all_as_it_was(
    capfd, tmp_path, tiny_bundle, image
):
    words = ("segment", image, "-o", tmp_path / "out", "-b", tiny_bundle)
    assert run(capfd, *words)[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for others in (("--memory", "10MB"), ("--format", "nifti,dicom-seg")):
        assert run(capfd, *words, *others)[0] != 0
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_picture_that_cannot_be_made_is_refused_before_the_network_runs(
    capfd, tmp_path, tiny_bundle, image, monkeypatch
):
    monkeypatch.setattr("volseg.segmenter.segmenter.Stream.run", None)
    words = ("segment", image, "-o", tmp_path / "out", "-b", tiny_bundle)
    code, _, errors = run(capfd, *words, "--format", "nifti,dicom-preview")
    assert code == 2
    assert "DICOM results refer to the DICOM series" in errors
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_killed_leaves_no_record_of_an_earlier_one(
    capfd, tmp_path, tiny_bundle, image, monkeypatch
):
    words = ("segment", image, "-o", tmp_path / "out", "-b", tiny_bundle)
    assert run(capfd, *words)[0] == 0

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("volseg.segmenter.CaseRecord.write", killed)
    assert run(capfd, *words, "--no-cleaning")[0] == 130
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ball0_seg.nii.gz"]


def test_a_subfolder_beside_images_is_not_passed_over_silently(capfd, tmp_path, tiny_bundle, image):
    (image.parent / "series").mkdir()
    words = ("segment", image.parent, "-o", tmp_path / "out", "-b", tiny_bundle)
    code, _, errors = run(capfd, *words)
    assert code == 0
    assert f"{image.parent / 'series'} is not looked into" in errors


def test_one_bad_case_does_not_stop_the_others(capfd, tmp_path, tiny_bundle, image):
    (image.parent / "broken.nii.gz").write_bytes(b"this is no image")
    out = tmp_path / "out"
    code, _, errors = run(capfd, "segment", image.parent, "-o", out, "-b", tiny_bundle)
    assert code == 1
    assert_one_sentence(errors)
    assert "broken" in errors
    assert len(list(out.glob("*_seg.nii.gz"))) == len(list(out.glob("*_record.json"))) == 6


def test_unusable_input_is_one_sentence_and_exit_code_2(capfd, tmp_path, tiny_bundle, image):
    out = tmp_path / "out"
    corrupt = tmp_path / "corrupt.nii.gz"
    corrupt.write_bytes(image.read_bytes()[:200])
    empty = tmp_path / "empty"
    empty.mkdir()
    stored = nib.load(image)
    colour = tmp_path / "two_channels.nii.gz"
    pair = np.stack([np.asarray(stored.dataobj)] * 2, axis=-1)
    nib.save(nib.Nifti1Image(pair, stored.affine), colour)
    picture = tmp_path / "picture.png"
    Image.new("L", (30, 20)).save(picture)
    words = ("-o", out, "-b", tiny_bundle)
    for given, expected in (
        ((corrupt, *words), "corrupt.nii.gz"),
        ((tmp_path / "absent.nii.gz", *words), "absent.nii.gz"),
        ((empty, *words), "empty"),
        ((colour, *words), "2 channels"),
        ((picture, *words), "2D"),
        ((image, "-o", corrupt / "out", "-b", tiny_bundle), "Not a directory"),
        ((image, "-o", out, "-b", "hipocampus_unet"), "did you mean 'hippocampus_unet'"),
        ((image, "-o", out, "-b", tiny_bundle, "--device", "gpu"), "device"),
    ):
        code, _, errors = run(capfd, "segment", *given)
        assert code == 2, errors
        assert expected in errors
        assert_one_sentence(errors)
    assert not out.exists() or list(out.iterdir()) == []


def test_an_unknown_network_in_a_bundle_is_named(capfd, tmp_path, tiny_bundle, image):
    config = tiny_bundle / "configs" / "inference.yaml"
    config.write_text(config.read_text().replace("name: unet", "name: u_net"))
    code, _, errors = run(capfd, "segment", image, "-o", tmp_path / "out", "-b", tiny_bundle)
    assert code == 2
    assert "did you mean 'unet'" in errors
    assert_one_sentence(errors)


def full_disk(_, stream, **options):
    stream.write(b"half")
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    capfd, tmp_path, tiny_bundle, image, monkeypatch
):
    monkeypatch.setattr(nib.Nifti1Header, "write_to", full_disk)
    out = tmp_path / "out"
    code, _, errors = run(capfd, "segment", image, "-o", out, "-b", tiny_bundle)
    assert code == 1
    assert "no space left" in errors.lower()
    assert_one_sentence(errors)
    assert list(out.iterdir()) == []


def test_a_full_disk_leaves_earlier_results_with_their_record(
    capfd, tmp_path, tiny_bundle, image, monkeypatch
):
    words = ("segment", image, "-o", tmp_path / "out", "-b", tiny_bundle, "--json")
    assert run(capfd, *words)[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with monkeypatch.context() as full:
        full.setattr(nib.Nifti1Header, "write_to", full_disk)
        assert run(capfd, *words, "--no-cleaning")[0] == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    code, text, _ = run(capfd, *words, "--skip-existing")
    assert (code, json.loads(text)[0]["status"]) == (0, "skipped")


def test_two_inputs_of_one_name_are_refused_before_any_work(capfd, tmp_path, tiny_bundle, image):
    twin = tmp_path / "ball0.nii"
    nib.save(nib.load(image), twin)
    code, _, errors = run(capfd, "segment", image, twin, "-o", tmp_path / "o", "-b", tiny_bundle)
    assert code == 2
    assert "ball0_seg" in errors


def test_wrong_usage_is_exit_code_2(capfd):
    assert run(capfd, "segment")[0] == 2
    assert run(capfd, "segmnt")[0] == 2


def test_debug_shows_the_traceback(tmp_path):
    words = ["segment", "absent.nii.gz", "-o", str(tmp_path), "-b", "phantom_unet", "--debug"]
    from volseg.errors import InputError

    with pytest.raises(InputError, match="absent"):
        main(words)


def test_evaluate_writes_table_and_summary(capfd, tmp_path, tiny_bundle):
    labels = tiny_bundle.parent / "data" / "labels"
    table = tmp_path / "scores.csv"
    code, text, _ = run(capfd, "evaluate", labels, labels, "-o", table, "-b", tiny_bundle)
    assert code == 0
    assert "anterior" in text
    summary = json.loads(table.with_suffix(".json").read_text())
    assert summary["classes"]["posterior"]["dice"]["mean"] == 1.0
    assert len(table.read_text().splitlines()) == 1 + 6 * 2
    code, text, _ = run(
        capfd, "evaluate", labels, labels, "-o", table, "--label", "ball=1", "--json"
    )
    assert list(json.loads(text)["classes"]) == ["ball"]
    code, _, errors = run(capfd, "evaluate", labels, labels, "-o", table, "--label", "ball")
    assert code == 2
    assert_one_sentence(errors)


def test_evaluate_names_the_case_whose_grid_differs(capfd, tmp_path, tiny_bundle):
    labels = tiny_bundle.parent / "data" / "labels"
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in labels.iterdir():
        stored = nib.load(path)
        affine = stored.affine.copy()
        affine[0, 3] += 5 if path.name.startswith("ball3") else 0
        nib.save(nib.Nifti1Image(np.asarray(stored.dataobj), affine), moved / path.name)
    code, _, errors = run(capfd, "evaluate", moved, labels, "-o", tmp_path / "x.csv")
    assert code == 1
    assert "ball3" in errors
    assert "5" in errors


def test_networks_prints_counts_beside_the_published_ones(capfd, monkeypatch):
    code, text, _ = run(capfd, "networks", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(text)}
    # Of the paper: 14.99 M and 115.67 G, by a counter that inflates transposed convolutions.
    bionet = rows["bionet"]
    assert bionet["parameters"] == bionet["reference_parameters"] == 14_977_857
    assert bionet["macs"] == bionet["reference_macs"] == 87_811_948_544
    assert (bionet["published_parameters"], bionet["published_macs"]) == ("14.99 M", "115.67 G")
    assert "ptflops 0.6.4" in bionet["difference"]
    assert rows["unet"]["presets"]["reference"] == {"channels": [64, 128, 256, 512, 1024]}
    for row in rows.values():
        assert row["deep_supervision"] in (True, False)
        assert row["scriptable"] == (row["name"] != "swinunetr")
    monkeypatch.setattr("volseg.cli.networks._described", rows.get)  # it takes seconds
    code, text, _ = run(capfd, "networks")
    assert code == 0
    line = next(line for line in text.splitlines() if line.startswith("bionet "))
    for word in ("14,977,857", "14.99 M", "87.81 G", "115.67 G", "512x512"):
        assert word in line
    assert "ptflops" in text


def test_bundle_list_and_verify(capfd, tiny_bundle):
    code, text, _ = run(capfd, "bundle", "list", "--json")
    assert code == 0
    assert "hippocampus_unet" in {row["name"] for row in json.loads(text)}
    code, text, _ = run(capfd, "bundle", "list", tiny_bundle, "--json")
    assert code == 0
    assert json.loads(text)[-1]["folder"] == str(tiny_bundle)
    assert run(capfd, "bundle", "list")[0] == 0
    assert run(capfd, "bundle", "verify", tiny_bundle)[0] == 0
    (tiny_bundle / "models" / "model.pt").unlink()
    code, text, _ = run(capfd, "bundle", "verify", tiny_bundle, "--json")
    assert code == 1
    assert "files" in {check["name"] for check in json.loads(text) if not check["passed"]}
    assert run(capfd, "bundle", "verify", "absent")[0] == 2


def test_inspect(capfd, image):
    code, text, _ = run(capfd, "inspect", image, "--json")
    assert code == 0
    description = json.loads(text)
    assert description["shape"] == [20, 24, 16]
    assert "".join(description["orientation"]) == "LPS"
    code, text, _ = run(capfd, "inspect", image)
    assert "LPS" in text
    assert run(capfd, "inspect", image.with_name("absent.nii"))[0] == 2
    code, _, errors = run(capfd, "inspect", image.parent)
    assert code == 2
    assert f"holds no DICOM image; it holds image files such as {image}: give these" in errors


def test_the_options_of_a_run(capfd, tmp_path, tiny_bundle, image):
    options = ["--memory", "4GB", "--tile", "24,24,16", "--overlap", "0.25", "--mirror", "xz"]
    options += ["--precision", "f32", "--backend", "torch", "--tile-batch", "2", "--no-cleaning"]
    options += ["--probabilities", "nii", "--uncertainty", "nii.gz", "--body-above", "20", "--json"]
    code, result, said = run(capfd, "segment", image, "-o", tmp_path, "-b", tiny_bundle, *options)
    assert code == 0
    assert "of 4.00 GB allowed" in said
    (row,) = json.loads(result)
    for name in ("output", "probabilities", "entropy", "disagreement"):
        assert nib.load(row[name]).shape[:3] == nib.load(image).shape
    probabilities = np.asarray(nib.load(row["probabilities"]).dataobj)
    assert np.array_equal(probabilities.argmax(-1), np.asarray(nib.load(row["output"]).dataobj))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--memory", "lots"], "no amount of memory"),
        (["--tile", "96;96"], "expected whole numbers"),
        (["--mirror", "abc"], "expected axes such as xyz"),
        (["--probabilities", "png"], "expected nii.gz, nii, zarr"),
        (["--memory", "4GB", "--preview"], "leave it out"),
        (["--precision", "f8"], "unknown precision"),
        (["--overlap", "2"], "overlap must be numbers"),
        (["--device", "cuda:99"], "is not there"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    capfd, tmp_path, tiny_bundle, image, options, reason
):
    words = ("segment", image, "-o", tmp_path / "out", "-b", tiny_bundle, *options)
    code, _, errors = run(capfd, *words)
    assert code == 2
    assert reason in errors
    assert_one_sentence(errors)
    assert not (tmp_path / "out").exists()


def test_memory_that_does_not_do_fails_the_case(capfd, tmp_path, tiny_bundle, image):
    words = ("segment", image, "-o", tmp_path / "out", "-b", tiny_bundle, "--memory", "10MB")
    code, _, errors = run(capfd, *words)
    assert code == 1
    assert "10 MB are allowed" in errors


def test_interrupting_leaves_nothing(capfd, tmp_path, tiny_bundle, image, monkeypatch):
    from volseg.inference import SlidingWindowInferer

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(SlidingWindowInferer, "predictors", lambda *_, **__: [interrupted])
    out = tmp_path / "out"
    code, _, errors = run(capfd, "segment", image, "-o", out, "-b", tiny_bundle)
    assert code == 130
    assert "interrupted" in errors
    assert not out.exists() or list(out.iterdir()) == []


TERMINATED = """
import sys, threading
from pathlib import Path
from volseg.atomic import replacing
from volseg.cli import main as command_line

@command_line.app.command("wait")
def wait():
    with replacing(Path(sys.argv[1]) / "a.nii") as temporary:
        temporary.write_text("half")
        print("ready", flush=True)
        threading.Event().wait(60)

command_line.main(["wait"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes are only killed there")
def test_an_end_that_a_scheduler_asks_for_leaves_nothing(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", TERMINATED, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "interrupted; nothing half-written was left behind." in errors
    assert_one_sentence(errors)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("own", [signal.SIG_DFL, signal.SIG_IGN, lambda *_: None])
def test_a_host_program_gets_its_own_way_to_end_back(capfd, own):
    before = signal.signal(signal.SIGTERM, own)
    try:
        assert run(capfd, "--version")[0] == 0
        assert signal.getsignal(signal.SIGTERM) == own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_command_runs_in_any_thread(capfd):
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run, capfd, "--version").result()[0] == 0


def test_a_file_without_orientation_needs_one_that_the_user_states(
    capfd, tmp_path, tiny_bundle, image
):
    stored = nib.load(image)
    nowhere = nib.Nifti1Image(np.asarray(stored.dataobj), None)
    nowhere.header.set_sform(None, code=0)
    nowhere.header.set_qform(None, code=0)
    path = tmp_path / "nowhere.nii.gz"
    nib.save(nowhere, path)
    words = ("segment", path, "-o", tmp_path / "out", "-b", tiny_bundle)
    code, _, errors = run(capfd, *words)
    assert code == 2
    assert "orientation" in errors
    assert run(capfd, *words, "--orientation", "LPS")[0] == 0
    written = nib.load(tmp_path / "out" / "nowhere_seg.nii.gz")
    assert nib.aff2axcodes(written.affine) == ("L", "P", "S")
