"""What only the files show: missing and broken slides, copies, near-identical looks, other stains."""

from pathlib import Path

import numpy as np
import pytest
from audit_studies import Study, found, one
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from tapfm_eval.audit.slides import ALIKE, perceptual_hash
from tapfm_eval.rehearsal.svs import write_svs

CODES = ("slide-missing", "slide-broken", "slide-same-bytes", "slide-look-alike", "stain-suspect")
VIOLET, BROWN = (170, 90, 160), (140, 95, 55)
EDGE = 384


def tissue(seed: int, colour: tuple[int, int, int] = VIOLET) -> NDArray[np.uint8]:
    """A piece of tissue on glass, of its own shape."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.standard_normal((EDGE, EDGE)), 24)
    shade = 0.7 + 0.3 * gaussian_filter(rng.standard_normal((EDGE, EDGE)), 3)[..., None]
    rgb = np.where((field > 0)[..., None], np.array(colour) * np.clip(shade, 0.6, 1.1), 245)
    return np.clip(rgb, 0, 255).astype(np.uint8)


@pytest.fixture
def slides(study: Study) -> dict[str, Path]:
    """Six patients a cohort, each with a slide of its own look."""
    folders = {}
    for cohort, first in (("ours", 0), ("theirs", 100)):
        table = getattr(study, cohort)
        table = table.iloc[:: len(table) // 6][:6].reset_index(drop=True)
        setattr(study, cohort, table)
        folders[cohort] = study.folder / cohort
        folders[cohort].mkdir()
        for i, row in enumerate(table.itertuples()):
            save(folders[cohort] / row.path, tissue(first + i), float(row.mpp))
    return folders


def save(path: Path, rgb: NDArray[np.uint8], mpp: float = 0.5) -> None:
    write_svs(path, rgb, mpp=mpp, objective=20 if mpp == 0.5 else 40, name=path.stem)


def test_clean_slides_are_silent(study: Study, slides: dict[str, Path]) -> None:
    assert not [finding for finding in study.audit(slides) if finding.code in CODES]


def test_missing_and_broken_slides_are_errors_with_their_rows(study: Study, slides: dict[str, Path]) -> None:
    (slides["ours"] / study.ours.loc[1, "path"]).unlink()
    (slides["ours"] / study.ours.loc[3, "path"]).write_bytes(b"no slide")
    study.theirs["size"] = ""
    study.theirs.loc[2, "size"] = "17"
    findings = study.audit(slides)
    assert one(findings, "slide-missing").rows == (3,)
    broken = {finding.where.split(" and ")[0][-10:]: finding.rows for finding in found(findings, "slide-broken")}
    assert sorted(broken.values()) == [(4,), (5,)]
    assert {f.severity for f in findings if f.code in CODES} == {"error"}


def test_patients_without_a_named_slide_are_a_warning_and_an_error_once_slides_are_there(
    study: Study, slides: dict[str, Path]
) -> None:
    study.theirs.loc[:3, ["slide_id", "path"]] = ""
    finding = one(study.audit(), "slide-missing")
    assert (finding.severity, finding.what[:53]) == ("warning", "4 of 6 patients of theirs have no named slide: nothin")
    assert one(study.audit(slides), "slide-missing").severity == "error"
    assert one(study.audit({"ours": slides["ours"]}), "slide-missing").severity == "warning"


def test_annotations_that_the_manifest_names_and_nobody_has_are_a_warning(
    study: Study, slides: dict[str, Path]
) -> None:
    study.ours["regions"] = ""
    study.ours.loc[2, "regions"] = "a.geojson"
    finding = one(study.audit(slides), "slide-broken")
    assert (finding.severity, finding.rows) == ("warning", (4,))
    (slides["ours"] / "a.geojson").write_text("{}")
    assert not found(study.audit(slides), "slide-broken")


def test_a_scale_that_contradicts_the_manifest_is_an_error(study: Study, slides: dict[str, Path]) -> None:
    study.ours.loc[0, "mpp"] = "0.5" if study.ours.loc[0, "mpp"] == "0.25" else "0.25"
    assert "agree on mpp" in one(study.audit(slides), "slide-broken").evidence[0]


def test_the_same_bytes_under_two_names_are_an_error_across_cohorts(study: Study, slides: dict[str, Path]) -> None:
    first, second = slides["ours"] / study.ours.loc[0, "path"], slides["theirs"] / study.theirs.loc[5, "path"]
    study.theirs.loc[5, "mpp"] = study.ours.loc[0, "mpp"]
    second.write_bytes(first.read_bytes())
    findings = study.audit(slides)
    finding = one(findings, "slide-same-bytes")
    assert finding.severity == "error"
    assert "ours" in finding.evidence[0]
    assert "theirs" in finding.evidence[0]
    assert not found(findings, "slide-look-alike")  # said once


@pytest.mark.parametrize("change", ["recompressed", "turned", "mirrored", "brighter", "other scale"])
def test_a_slide_saved_again_is_found_by_its_look(study: Study, slides: dict[str, Path], change: str) -> None:
    again = tissue(2)
    if change == "turned":
        again = np.rot90(again).copy()
    elif change == "mirrored":
        again = again[:, ::-1].copy()
    elif change == "brighter":
        again = np.clip(again.astype(float) * 1.04, 0, 255).astype(np.uint8)
    elif change == "other scale":
        again = np.asarray(Image.fromarray(again).resize((300, 300)))
    save(slides["theirs"] / study.theirs.loc[4, "path"], again, float(study.theirs.loc[4, "mpp"]))
    finding = one(study.audit(slides), "slide-look-alike")
    assert finding.severity == "warning"
    assert finding.numbers == {"pairs": 1}


def test_slides_that_are_not_pink_to_violet_are_a_warning(study: Study, slides: dict[str, Path]) -> None:
    save(slides["ours"] / study.ours.loc[2, "path"], tissue(77, BROWN), float(study.ours.loc[2, "mpp"]))
    finding = one(study.audit(slides), "stain-suspect")
    assert finding.rows == (4,)


def test_glass_without_tissue_has_no_look(study: Study, slides: dict[str, Path]) -> None:
    for i in (0, 1):
        save(slides["ours"] / study.ours.loc[i, "path"], np.full((EDGE, EDGE, 3), 240 + i, np.uint8),
             float(study.ours.loc[i, "mpp"]))  # fmt: skip
    assert not [f for f in study.audit(slides) if f.code in ("slide-look-alike", "stain-suspect")]


def test_unrelated_looks_differ_in_many_more_bits_than_is_called_alike() -> None:
    hashes = [perceptual_hash(tissue(seed)) for seed in range(12)]
    distances = [int((a != b).sum()) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(distances) > 2 * ALIKE


def test_only_the_cohorts_with_a_folder_are_opened(study: Study, slides: dict[str, Path]) -> None:
    (slides["theirs"] / study.theirs.loc[1, "path"]).unlink()
    assert not found(study.audit({"ours": slides["ours"]}), "slide-missing")
