"""What the protocol itself lets go wrong: backbones that know the patients, licences, test patients that choose."""

import re
from collections.abc import Mapping, Sequence
from itertools import product

from tapfm_eval.audit.findings import Finding, counted, listed
from tapfm_eval.audit.identity import barcode, programmes
from tapfm_eval.audit.subject import Subject
from tapfm_eval.backbones.cards import BackboneCard
from tapfm_eval.protocol.schema import Protocol

SCALE_TOLERANCE = 0.05  # what `slides.reader` forgives a slide; an audit without slides needs no OpenSlide
_CLINICAL = re.compile(
    r"clinical (use|care|routine|practice|decision)|patient care|diagnos(e|is|tic)|medical device|treatment decision"
    r"|(guide|select|choose)s? (the )?(treatment|therapy)|routine (use|care)"
)
_COMMERCIAL = re.compile(r"commercial|\bsale\b|product")
_RESEARCH_ONLY = re.compile(r"\bresearch( and development)?( use| purposes?)? only\b|\bonly (for|in) research\b")
_DENIED = re.compile(
    r"\b(not|never|nor)\b( [\w-]+){0,3}? (for|as|in|to|a|an|any)\b"  # not intended for, not to be used as a
    r"|\bno (clinical|diagnostic|medical|commercial|product|model|routine|patient)"
    r"|\bnon[- ]?(clinical|diagnostic|commercial)"
    r"|\bwithout (any )?(clinical|diagnostic|commercial)"
)


def audit_settings(
    protocol: Protocol, subjects: Sequence[Subject], cards: Mapping[str, BackboneCard]
) -> tuple[Finding, ...]:
    """All findings that the protocol, the backbones' cards and the cohorts' names suffice for."""
    findings: list[Finding] = []
    used = {arm.backbone: cards[arm.backbone] for arm in protocol.arms}
    for subject in subjects:
        findings += _exposure(protocol, subject, used)
    for name, card in used.items():
        findings += _licence(protocol, name, card) + _scale(protocol, name, card)
    return (*findings, *_not_supplied(protocol), *_selection(protocol, subjects))


def _not_supplied(protocol: Protocol) -> list[Finding]:
    """A development cohort that is only expected yet: what nobody can audit before it is there."""
    findings = []
    for name, plan in protocol.cohorts.items():
        if plan.expected is not None:
            positives = {t: round(plan.expected.patients * share) for t, share in plan.expected.prevalence.items()}
            findings.append(
                Finding(
                    code="cohort-not-supplied",
                    severity="warning",
                    where=f"cohorts.{name}.expected",
                    what=f"{name}, the development cohort, is declared by its expected size alone, so this audit says "
                    "nothing of it: not of its labels, slides and split, of patients or slides that it shares with "
                    "other cohorts, of drift, of confounding, and not whether selection has enough patients.",
                    evidence=(
                        f"{counted(plan.expected.patients, 'patient')} expected",
                        *(f"{target}: {counted(count, 'positive')} expected, {plan.expected.prevalence[target]:.0%}"
                          for target, count in positives.items()),
                    ),
                    remedy="Write `manifest` and `split` in place of `expected` once you have them, then audit again.",
                    numbers={f"{target}_positives": float(count) for target, count in positives.items()},
                )
            )  # fmt: skip
    return findings


def _exposure(protocol: Protocol, subject: Subject, cards: Mapping[str, BackboneCard]) -> list[Finding]:
    """Backbones that saw the cohort's slides in pretraining, or whose owner does not say."""
    codes = frozenset(code for code in map(barcode, subject.studied) if code)
    findings = []
    sources = programmes(subject.name, codes) or ("",)
    for source, state in product(sources, ("included", "undisclosed")):
        names = [name for name, card in cards.items() if card.exposure(source or subject.name) == state]
        if not names:
            continue
        arms = [arm.id for arm in protocol.arms if arm.backbone in names]
        slides = f"{source} slides" if source else "this cohort's slides"
        if state == "included":
            what = f"{listed(names)} {'was' if len(names) == 1 else 'were'} pretrained on {slides}: "
            what += f"results on {subject.name} may be optimistic, and so may comparisons with backbones that were not."
        else:
            what = f"Whether {listed(names)} {'was' if len(names) == 1 else 'were'} pretrained on {slides} is "
            what += f"undisclosed: results on {subject.name} may be optimistic."
        findings.append(
            Finding(
                code="backbone-saw-cohort" if state == "included" else "backbone-undisclosed",
                severity="warning",
                where=f"cohorts.{subject.name}",
                what=what,
                evidence=(*(f"{name}: {cards[name].pretraining}" for name in names), f"arms: {', '.join(arms)}"),
                remedy="Say so beside the results, add a backbone whose owner declares these slides excluded, or test "
                "on patients that no backbone can have seen.",
                numbers={"arms": len(arms)},
            )
        )
    return findings


def _licence(protocol: Protocol, name: str, card: BackboneCard) -> list[Finding]:
    where = f"arms with backbone {name}, and intended_use"
    clinical, commercial = intended(protocol.intended_use)
    forbidden = [
        use
        for use, forbids, meant in (
            ("clinical use", card.forbids_clinical_use, clinical),
            ("commercial use", card.forbids_commercial_use, commercial),
        )
        if forbids and meant
    ]
    if forbidden:
        return [
            Finding(
                code="licence-forbids-use",
                severity="error",
                where=where,
                what=f"The licence of {card.title} forbids {' and '.join(forbidden)}, which intended_use states.",
                evidence=(f"licence: {card.licence}", f"intended_use: {protocol.intended_use.strip()}"),
                remedy="Use another backbone, obtain a licence from its owner, or correct intended_use.",
            )
        ]
    if card.forbids_clinical_use or card.forbids_commercial_use:
        limits = [
            use
            for use, forbids in (("clinical", card.forbids_clinical_use), ("commercial", card.forbids_commercial_use))
            if forbids
        ]
        return [
            Finding(
                code="licence-restricts",
                severity="note",
                where=where,
                what=f"The licence of {card.title} allows no {' or '.join(limits)} use of what is trained on it.",
                evidence=(f"licence: {card.licence}",),
                remedy="Read the licence before anything trained here leaves the research.",
            )
        ]
    return []


def _scale(protocol: Protocol, name: str, card: BackboneCard) -> list[Finding]:
    """Tiles at another scale than the backbone knows cells at."""
    mpp = protocol.tiles.mpp
    if abs(mpp - card.mpp) <= SCALE_TOLERANCE * card.mpp:
        return []
    arms = [arm.id for arm in protocol.arms if arm.backbone == name]
    return [
        Finding(
            code="backbone-other-scale",
            severity="warning",
            where=f"tiles.mpp, and arms with backbone {name}",
            what=f"Tiles are cut at {mpp:g} µm per pixel, while {card.title} takes {card.mpp:g}: nuclei and glands are "
            f"{card.mpp / mpp:.2g} times the size it knows, unless it was pretrained at several scales.",
            evidence=(f"pretraining: {card.pretraining}", f"arms: {', '.join(arms)}"),
            remedy=f"State `mpp: {card.mpp:g}` under `tiles:`, or name the publication that used this scale.",
            numbers={"tiles_mpp": mpp, "backbone_mpp": card.mpp},
        )
    ]


def intended(use: str) -> tuple[bool, bool]:
    """Whether a statement of intended use claims clinical use, and commercial use.

    A sentence claims neither if it denies it (`not for clinical care`, `non-commercial`) or says `research use only`; a
    word such as `research-grade` or `without delay` frees nothing.

    >>> intended("Research use. Triage of patients for confirmatory sequencing.")
    (False, False)
    >>> intended("Diagnostic aid in routine care."), intended("Not for clinical use. A commercial product.")
    ((True, False), (False, True))
    """
    claims = [
        sentence
        for sentence in re.split(r"[.;!?\n]+", use.casefold())
        if not _DENIED.search(sentence) and not _RESEARCH_ONLY.search(sentence)
    ]
    return any(_CLINICAL.search(c) for c in claims), any(_COMMERCIAL.search(c) for c in claims)


def _selection(protocol: Protocol, subjects: Sequence[Subject]) -> list[Finding]:
    """Settings by which test patients have a say in what is tested on them."""
    findings = []
    development = next((subject for subject in subjects if subject.role == "development"), None)
    split = development.split if development is not None else None
    if development is not None and split is not None:
        tested, validated = (set(split.table.loc[split.table["split"] == part, "patient_id"]) for part in
                             ("test", "validation"))  # fmt: skip
        both = tested & validated
        if protocol.analysis.operating_points and both:
            findings.append(
                Finding(
                    code="selects-on-test",
                    severity="warning",
                    where=f"analysis.operating_points, cohort {development.name}",
                    what="Thresholds are fixed on the validation patients of all folds, and "
                    f"{counted(len(both), 'of them is a test patient', 'of them are test patients')} of another fold: "
                    f"operating points on {development.name} are a little optimistic; those on external cohorts are "
                    "not concerned.",
                    evidence=(f"{len(both)} of {len(tested)} test patients",),
                    remedy="Judge operating points on external patients, or use a holdout split.",
                    numbers={"patients": len(both)},
                )
            )
        chosen = protocol.cohorts[development.name].folds
        if chosen != "all" and len(chosen) < int(split.meta.get("folds", 0) or 0):
            findings.append(
                Finding(
                    code="selects-on-test",
                    severity="warning",
                    where=f"cohorts.{development.name}.folds",
                    what=f"Only {counted(len(chosen), 'fold')} of {split.meta['folds']} are run: folds picked after a "
                    "look at their results would select on test patients.",
                    evidence=(f"folds {', '.join(map(str, chosen))} of {split.path}",),
                    remedy="Write `folds: all`, or say on what grounds these folds were chosen beforehand.",
                    numbers={"folds": len(chosen)},
                )
            )
    primary = protocol.analysis.primary
    if primary is not None and primary.cohort not in protocol.external:
        findings.append(
            Finding(
                code="primary-on-development",
                severity="warning",
                where="analysis.primary.cohort",
                what=f"The primary endpoint is tested on {primary.cohort}, the development cohort: it cannot show that "
                "results carry over to other patients.",
                evidence=(),
                remedy="Name an external cohort, if there is one.",
            )
        )
    return findings


def unused_overrides(protocol: Protocol, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Overrides that accept what was not found: stale, or meant for another finding."""
    found = {finding.code for finding in findings}
    return tuple(
        Finding(
            code="override-unused",
            severity="note",
            where=f"overrides[{position}]",
            what=f"The override of {override.finding} accepts nothing: there is no such finding.",
            evidence=(f"its reason: {override.reason}",),
            remedy="Remove it.",
        )
        for position, override in enumerate(protocol.overrides)
        if override.finding not in found
    )
