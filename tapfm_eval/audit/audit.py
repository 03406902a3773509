"""Every check on a study, or on one manifest: what `tapfm-eval audit` shows and what may stop a run."""

from collections.abc import Mapping

from tapfm_eval.audit.confounding import audit_confounding
from tapfm_eval.audit.drift import audit_shift, audit_split
from tapfm_eval.audit.findings import Finding, in_order, standing_errors
from tapfm_eval.audit.gather import Gathered, refusal
from tapfm_eval.audit.leakage import audit_leakage
from tapfm_eval.audit.precision import audit_precision, audit_primary, audit_selection
from tapfm_eval.audit.protocol import audit_settings, unused_overrides
from tapfm_eval.audit.schema import (
    audit_columns,
    audit_emptiness,
    audit_left_out,
    audit_rows,
    audit_taken,
    audit_unnamed,
)
from tapfm_eval.audit.sites import audit_sites
from tapfm_eval.audit.specimens import audit_preparation, audit_specimens
from tapfm_eval.audit.subject import Subject, subjects_of
from tapfm_eval.backbones.cards import BackboneCard
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.protocol.schema import Protocol

LEVEL = 0.95  # of intervals, for a manifest outside any protocol
SEED = 0  # of permutations, for the same


def audit_protocol(
    protocol: Protocol, cohorts: Mapping[str, Cohort], cards: Mapping[str, BackboneCard]
) -> tuple[Finding, ...]:
    """All findings about a study whose cohorts are loaded, errors first. No slide is opened.

    Args:
        protocol: The protocol.
        cohorts: Its cohorts, as `load_cohorts` gives them.
        cards: The backbones' cards, by name.
    """
    return audit_subjects(protocol, Gathered(subjects_of(protocol, cohorts), ()), cards)


def audit_subjects(
    protocol: Protocol, gathered: Gathered, cards: Mapping[str, BackboneCard], slides: tuple[Finding, ...] = ()
) -> tuple[Finding, ...]:
    """All findings about a study whose cohorts were read as far as they could be; see `audit_protocol`.

    Args:
        protocol: The protocol.
        gathered: Its cohorts, and the faults met in reading them.
        cards: The backbones' cards, by name.
        slides: What `audit_slides` found, where slides were opened.
    """
    subjects, seed = gathered.subjects, protocol.seeds[0]
    findings = [
        *gathered.findings,
        *slides,
        *_common(subjects, protocol.analysis.level, seed),
        *audit_settings(protocol, subjects, cards),
    ]
    for subject in subjects:
        findings += [*audit_columns(protocol, subject), *audit_selection(protocol, subject)]
    for development in (subject for subject in subjects if subject.role == "development"):
        for external in (subject for subject in subjects if subject.role == "external"):
            findings += [*audit_shift(development, external, seed), *audit_preparation(development, external)]
    findings += audit_primary(protocol, subjects)
    if not standing_errors(findings, (override.finding for override in protocol.overrides)):
        findings += [refusal(problem) for problem in gathered.refused]  # `run` would refuse: never call that clean
    return in_order([*findings, *unused_overrides(protocol, findings)])


def audit_manifest(gathered: Gathered, slides: tuple[Finding, ...] = ()) -> tuple[Finding, ...]:
    """All findings about a manifest and its split, errors first.

    Args:
        gathered: What `gather_manifest` read.
        slides: What `audit_slides` found, where slides were opened.
    """
    taken = [finding for subject in gathered.subjects for finding in audit_taken(subject)]
    return in_order([*gathered.findings, *slides, *taken, *_common(gathered.subjects, LEVEL, SEED)])


def _common(subjects: tuple[Subject, ...], level: float, seed: int) -> list[Finding]:
    """What can be checked with or without a protocol."""
    findings = [*audit_leakage(subjects), *audit_sites(subjects)]
    for subject in subjects:
        findings += [
            *audit_rows(subject),
            *audit_left_out(subject),
            *audit_emptiness(subject),
            *audit_unnamed(subject),
            *audit_specimens(subject),
        ]
        findings += [*audit_split(subject, seed), *audit_confounding(subject, seed), *audit_precision(subject, level)]
    return findings
