"""What every section must know alike: the order of cohorts and arms, how many decimals, whose ids may be shown."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol as Interface
from typing import TypeVar

from tapfm_eval.protocol.schema import NEGATIVE_CONTROL
from tapfm_eval.report.blocks import Cell, RowGroup
from tapfm_eval.report.inputs import ReportInputs
from tapfm_eval.report.numbers import decimals_for, interval_name, visible

_SPLITS = ("test", "external", "validation")


class Placed(Interface):
    """A result that belongs to a split of a cohort."""

    @property
    def cohort(self) -> str: ...

    @property
    def split(self) -> str: ...


Result = TypeVar("Result", bound=Placed)


@dataclass(frozen=True, slots=True)
class Part:
    """The patients that a result is about: one split of one cohort."""

    cohort: str
    split: str

    @property
    def id(self) -> str:
        """A name for anchors and files: `tcga-luad-test`."""
        return f"{self.cohort}-{self.split}"

    @property
    def title(self) -> str:
        """A name for headings: `tcga-luad · test`."""
        return f"{visible(self.cohort)} · {self.split}"


@dataclass(frozen=True, slots=True)
class Scope:
    """The facts of a run with the choices that hold throughout its report."""

    inputs: ReportInputs
    show_ids: bool  # False: patients and slides appear under pseudonyms
    accent_arm: str  # drawn in the accent colour: the primary endpoint's arm, else the first
    arms: tuple[str, ...]
    decimals: int  # of AUROCs
    difference_decimals: int  # of differences between AUROCs

    @property
    def interval(self) -> str:
        """`95% CI`."""
        return interval_name(self.inputs.results.level)

    @property
    def compared_note(self) -> str:
        """That some patients with a known label entered no AUROC, where that is so; else nothing."""
        if all(result.auroc.n == result.known for result in self.inputs.results.aurocs if result.assessed):
            return ""
        return " AUROCs over folds compare patients within a fold; folds without both classes have no say."

    @property
    def control_note(self) -> str:
        """That the rehearsal's negative control has no mutation to find; nothing where there is none."""
        if NEGATIVE_CONTROL not in self.inputs.results.targets:
            return ""
        return f" Those of {NEGATIVE_CONTROL} are patients with a permuted label."

    @property
    def folds(self) -> int:
        """Folds on which models were trained; 0 where there was no training."""
        return len({unit.fold for unit in self.inputs.units})

    @property
    def one_target(self) -> bool:
        """Averages over targets would repeat the one that there is."""
        macros = self.inputs.results.macros
        return bool(macros) and all(len(m.targets) + len(m.left_out) == 1 for m in macros)

    def style(self, arm: str) -> int:
        """Position of the arm's colour; 0 is the accent."""
        others = [name for name in self.arms if name != self.accent_arm]
        return 0 if arm == self.accent_arm else 1 + others.index(arm)

    def parts(self, results: Iterable[Placed], *, splits: tuple[str, ...] = _SPLITS) -> tuple[Part, ...]:
        """The parts that occur among the results: unseen patients first, cohorts in the order of the protocol."""
        found = {Part(result.cohort, result.split) for result in results if result.split in splits}
        cohorts = list(self.inputs.protocol.cohorts)
        rank = {name: position for position, name in enumerate(cohorts)}
        return tuple(
            sorted(
                found,
                key=lambda part: (splits.index(part.split), rank.get(part.cohort, len(cohorts)), part.cohort),
            )
        )

    def by_part(
        self,
        results: Iterable[Result],
        row: Callable[[Result], tuple[Cell, ...]],
        *,
        splits: tuple[str, ...] = _SPLITS,
    ) -> tuple[RowGroup, ...]:
        """Table rows grouped under their parts, in the order in which the results came."""
        items = tuple(results)
        return tuple(
            RowGroup(
                part.title + (" (chose the epochs; optimistic)" if part.split == "validation" else ""),
                tuple(row(item) for item in items if (item.cohort, item.split) == (part.cohort, part.split)),
            )
            for part in self.parts(items, splits=splits)
        )


def scope_of(inputs: ReportInputs, *, show_ids: bool) -> Scope:
    """The choices that hold for a run's whole report."""
    results = inputs.results
    arms = tuple(dict.fromkeys((*results.arms, *(r.arm for r in results.aurocs), *(unit.arm for unit in inputs.units))))
    primary = results.primary
    accent = primary.arm if primary is not None else (arms[0] if arms else "")
    differences = [result.difference for result in results.comparisons]
    if primary is not None:
        differences.append(primary.difference)
    return Scope(
        inputs=inputs,
        show_ids=show_ids,
        accent_arm=accent,
        arms=tuple(dict.fromkeys((*arms, accent))) if accent else arms,
        decimals=decimals_for((result.auroc for result in results.aurocs), fine_below=0.04),
        difference_decimals=decimals_for(differences, fine_below=0.1),
    )
