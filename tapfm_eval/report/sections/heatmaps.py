"""Where a model looked: slides of right and wrong calls, with what their tiles weighed."""

import math
from collections.abc import Mapping

from tapfm_eval.report.blocks import Block, Cell, Column, Figure, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.drawings import PictureRow, PictureSheet
from tapfm_eval.report.numbers import count, count_cell, counted, fixed, text_cell, visible
from tapfm_eval.report.palette import TISSUE_GREY, blended, weight_colour
from tapfm_eval.report.pictures import CasePictures
from tapfm_eval.report.scope import Part, Scope
from tapfm_eval.results import CaseResult

_SHADES = 22  # of the colour scale
_MEANING = {
    "true positive": "mutated, called mutated",
    "false positive": "not mutated, called mutated",
    "false negative": "mutated, called not mutated",
    "true negative": "not mutated, called not mutated",
}


def heatmaps_section(scope: Scope) -> Section | None:
    """The chosen slides of each target; None where no call could be made (no threshold, or no slides)."""
    cases = scope.inputs.results.cases
    if not cases:
        return None
    names = _names(scope)
    pictures = {(p.target, p.call, p.patient_id, p.slide_id): p for p in scope.inputs.pictures}
    found = {case: pictures.get((case.target, case.call, case.patient_id, case.slide_id)) for case in cases}
    blocks: list[Block] = [Paragraph(_chosen(scope))]
    if scope.inputs.pictures:
        blocks.append(Paragraph(_meaning(scope)))
    else:
        blocks.append(Paragraph("The run kept no pictures of its slides: this table says whom they would show."))
    blocks.append(_table(scope, found, names))
    if scope.inputs.pictures:
        for target in dict.fromkeys(case.target for case in cases):
            for kind in ("right", "wrong"):
                shown = {
                    c: found[c]
                    for c in cases
                    if c.target == target and (c.call.startswith("true")) == (kind == "right")
                }
                if shown:
                    blocks.append(_figure(scope, target, kind, shown, names))
    return Section("heatmaps", "Where the model looked", tuple(blocks))


def _names(scope: Scope) -> dict[CaseResult, str]:
    """A number for each patient, in the order of their ids so that it tells nothing; or the ids themselves."""
    cases = scope.inputs.results.cases
    order = {patient: number for number, patient in enumerate(sorted({case.patient_id for case in cases}), 1)}
    return {case: case.patient_id if scope.show_ids else f"case {order[case.patient_id]}" for case in cases}


def _chosen(scope: Scope) -> str:
    cases = scope.inputs.results.cases
    first = cases[0]
    part = Part(first.cohort, first.split)
    targets = len(dict.fromkeys(case.target for case in cases))
    all_targets = len({r.target for r in scope.inputs.results.operating_points})
    some = f" {targets} of {all_targets} targets are shown." if targets < all_targets else ""
    return (
        f"Slides of {part.title} as {visible(first.arm)} calls them at the threshold of "
        f"{'Youden’s index' if first.rule == 'Youden' else visible(first.rule)}, fixed on validation patients. Nobody "
        "picked them: of right calls it is the patient in the middle of the ranking by "
        f"score, of wrong calls the one farthest on the wrong side.{some}"
    )


def _meaning(scope: Scope) -> str:
    models = max(pictures.models for pictures in scope.inputs.pictures)
    mean = f", averaged over {models} models" if models > 1 else ""
    return (
        "Colours lie over the tissue and rank its tiles by their share in the score, from least (pale) to most (dark); "
        f"frames mark the tiles of most weight that stand beside it{mean}. A weight says how much of a tile went into "
        "the score. It does not say that the tile argued for the mutation, nor that a pathologist would see anything "
        "in it."
    )


def _figure(
    scope: Scope,
    target: str,
    kind: str,
    found: Mapping[CaseResult, CasePictures | None],
    names: Mapping[CaseResult, str],
) -> Figure:
    rows = tuple(_row(case, pictures, names[case]) for case, pictures in found.items())
    told = " ".join(f"{row.title}: {row.note}." for row in rows)
    tiles = next((p.tile_um for p in found.values() if p is not None and p.tissue is not None), math.nan)
    edge = "" if math.isnan(tiles) else f". Tiles are {fixed(tiles, 0)} µm wide."
    first = next(iter(found))
    return Figure(
        id=f"heatmaps-{target}-{kind}",
        caption=f"{visible(target)}, {kind} calls, {Part(first.cohort, first.split).title}{edge}",
        alt=f"Slides with {kind} calls for {visible(target)}, a row each: the whole slide, the same with tiles "
        f"coloured by rank of weight, and the strongest and weakest tiles. {told}",
        drawing=PictureSheet(
            rows=rows,
            headers=("Tissue", "Weight of its tiles", "Tiles of most and of least weight"),
            scale=tuple(blended(weight_colour(shade / (_SHADES - 1)), TISSUE_GREY) for shade in range(_SHADES)),
            scale_ends=("least weight", "most"),
        ),
    )


def _row(case: CaseResult, pictures: CasePictures | None, name: str) -> PictureRow:
    title = f"{case.call[:1].upper()}{case.call[1:]}, {visible(name)} ({_MEANING[case.call]})"
    if pictures is None or pictures.tissue is None or pictures.weights is None:
        reason = "no picture was kept" if pictures is None else visible(pictures.reason or "no picture was kept")
        return PictureRow(title, f"not shown: {reason}", (), (), ())
    width, height = pictures.slide_mm
    decimals = 0 if max(width, height) >= 10 else 1
    note = (
        f"score {_beside(case, case.score)}, threshold {_beside(case, case.threshold)}; "
        f"{counted(pictures.tiles, 'tile')}, half of the weight on {count(pictures.half)}; "
        f"slide {fixed(width, decimals)} × {fixed(height, decimals)} mm"
    )
    return PictureRow(title, note, (pictures.tissue, pictures.weights), pictures.strongest, pictures.weakest, width)


def _beside(case: CaseResult, number: float) -> str:
    """A score or threshold to two decimals, three where the two would print alike."""
    return fixed(number, 3 if fixed(case.score, 2) == fixed(case.threshold, 2) else 2)


def _table(scope: Scope, found: Mapping[CaseResult, CasePictures | None], names: Mapping[CaseResult, str]) -> Table:
    targets = dict.fromkeys(case.target for case in found)

    def row(case: CaseResult) -> tuple[Cell, ...]:
        pictures = found[case]
        known = pictures is not None and pictures.tiles > 0
        return (
            text_cell(case.call),
            text_cell(names[case]),
            text_cell(case.slide_id if scope.show_ids else ""),
            count_cell(case.alike),
            Cell(_beside(case, case.score), (case.score,), case.score),
            Cell(_beside(case, case.threshold), (case.threshold,), case.threshold),
            count_cell(pictures.tiles) if pictures is not None and known else Cell("–", (None,)),
            count_cell(pictures.half) if pictures is not None and pictures.half else Cell("–", (None,)),
            text_cell("" if pictures is None else pictures.reason or ""),
        )

    remarks = any(pictures is not None and pictures.reason for pictures in found.values())
    return Table(
        "cases",
        "The slides shown",
        (
            Column("Call", ("call",), width=1.3),
            Column("Patient", ("patient",), width=1.2),
            Column("Slide", ("slide",), width=1.6, shown=scope.show_ids),
            Column("Patients so called", ("patients_so_called",), "number", 1.2),
            Column("Score", ("score",), "number", 0.8),
            Column("Threshold", ("threshold",), "number", 0.9),
            Column("Tiles", ("tiles",), "number", 0.8),
            Column("Hold half the weight", ("tiles_of_half_the_weight",), "number", 1.3),
            Column("Remark", ("remark",), width=2.2, shown=remarks),
        ),
        tuple(RowGroup(visible(target), tuple(row(case) for case in found if case.target == target))
              for target in targets),
        group_name="target",
        note="Hold half the weight: the fewest tiles that together make up half of it; few of many means that the "
        "model looked at little." + ("" if scope.show_ids else " Patients are numbered within this section."),
    )  # fmt: skip
