"""How the numbers were computed, in sentences that a paper can quote, generated from the analysis plan."""

from collections.abc import Sequence

from tapfm_eval.protocol.schema import AllAgainst, AtRule, NonInferiorityPlan
from tapfm_eval.report.measured import PAIRED_TEST
from tapfm_eval.report.numbers import interval_name, percent
from tapfm_eval.report.scope import Scope

_CORRECTIONS = {"holm": "Holm", "hochberg": "Hochberg", "bh": "Benjamini and Hochberg"}
REFERENCES = (
    "Kumar et al. Single GPU Task Adaptation of Pathology Foundation Models for Whole Slide Image Analysis. "
    "arXiv:2506.05184, 2025.",
    "Otsu. A threshold selection method from gray-level histograms. IEEE Trans Syst Man Cybern 1979. "
    "doi:10.1109/TSMC.1979.4310076.",
    "DeLong, DeLong, Clarke-Pearson. Comparing the areas under two or more correlated receiver operating "
    "characteristic curves. Biometrics 1988. doi:10.2307/2531595.",
    "Sun, Xu. Fast implementation of DeLong’s algorithm. IEEE Signal Process Lett 2014. doi:10.1109/LSP.2014.2337313.",
    "Newcombe. Confidence intervals for an effect size measure based on the Mann–Whitney statistic, part 2. Stat Med "
    "2006. doi:10.1002/sim.2324.",
    "Obuchowski. Nonparametric analysis of clustered ROC curve data. Biometrics 1997. doi:10.2307/2533958.",
    "Holm. A simple sequentially rejective multiple test procedure. Scand J Stat 1979; 6: 65–70.",
    "Cox. Two further applications of a model for binary regression. Biometrika 1958. doi:10.1093/biomet/45.3-4.562.",
    "Welch. On the comparison of several mean values: an alternative approach. Biometrika 1951. "
    "doi:10.1093/biomet/38.3-4.330.",
    "Vickers, Elkin. Decision curve analysis. Med Decis Making 2006. doi:10.1177/0272989X06295361.",
    "Gu, Ghosal, Roy. Bayesian bootstrap estimation of ROC curve. Stat Med 2008. doi:10.1002/sim.3366.",
    "Austin. Balance diagnostics for comparing the distribution of baseline covariates between treatment groups in "
    "propensity-score matched samples. Stat Med 2009. doi:10.1002/sim.3697.",
    "Yang, Dalton. A unified approach to measuring the effect size between two groups using SAS. SAS Global Forum "
    "2012, paper 335-2012.",
    "Zou, Donner. Construction of confidence limits about effect measures: a general approach. Stat Med 2008. "
    "doi:10.1002/sim.3095.",
    "Wilson. Probable inference, the law of succession, and statistical inference. JASA 1927. "
    "doi:10.1080/01621459.1927.10502953.",
)


def named(names: Sequence[str]) -> str:
    """Names as a sentence lists them: `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "none"


def statistics_paragraphs(scope: Scope) -> tuple[str, ...]:
    """How intervals, tests and thresholds were computed: estimates, comparisons, use, and what may mislead."""
    return tuple(filter(None, (_estimates(scope), _comparisons(scope), _use(scope), _caution(scope))))


def _estimates(scope: Scope) -> str:
    text = (
        f"Intervals are two-sided at {interval_name(scope.inputs.results.level).removesuffix(' CI')} unless said "
        "otherwise. AUROCs are Mann–Whitney estimates; their intervals are by DeLong’s variance on the logit scale "
        "with Student t or, where few patients are in the rarer class or the AUROC is near 1, the envelope of that and "
        "Newcombe’s method 5; tables name the method. AUROCs over several folds are pair-weighted means of within-fold "
        "AUROCs; scores of test patients of different folds are never ranked together. Bands of ROC curves hold at "
        "each false positive rate by itself: thresholds are drawn from the negatives, sensitivities there from their "
        "Jeffreys posterior. Average precision is the step-wise area under the precision–recall curve."
    )
    if len(scope.inputs.results.targets) > 1:
        text += (
            " The macro AUROC is the mean over targets, its interval joined from theirs with the correlations that "
            "shared patients cause; the micro AUROC ranks all pairs of patient and target, clustered by patient."
        )
    return text


def _comparisons(scope: Scope) -> str:
    plan = scope.inputs.protocol.analysis
    lines = []
    if plan.primary is not None:
        primary = plan.primary
        question = (
            f"non-inferiority with a margin of {primary.hypothesis.non_inferiority.margin:g}"
            if isinstance(primary.hypothesis, NonInferiorityPlan)
            else "superiority"
        )
        lines.append(
            f"The primary endpoint is {question} of {primary.arm} to {primary.versus} in AUROC for {primary.target} in "
            f"{primary.cohort}, at one-sided {primary.one_sided_alpha:g}, with an interval two-sided at "
            f"{percent(1 - 2 * primary.one_sided_alpha, 1).replace('.0%', '%')}; being the only one, it is not "
            "adjusted."
        )
    if plan.families or plan.primary is not None:
        lines.append(
            "Arms are compared on the same patients by paired DeLong with a Satterthwaite t test; no test is made with "
            "fewer than 5 patients of a class. In simulations of equal AUROCs this test rejected in at most "
            f"{percent(PAIRED_TEST.rejected_alike, 1)} at nominal 5% where the scores of positives spread alike in "
            f"both arms, and in up to {percent(PAIRED_TEST.rejected_unlike)} where they are few and spread very "
            f"differently; 95% intervals of a difference covered {percent(PAIRED_TEST.covered[0])} to "
            f"{percent(PAIRED_TEST.covered[1])} with 5 to 10 positives, least where AUROCs are near 1 and the scores "
            "highly correlated."
        )
    for family in plan.families:
        what = (
            f"every arm against {family.comparisons.all_against}"
            if isinstance(family.comparisons, AllAgainst)
            else "all pairs of arms"
        )
        lines.append(
            f"Family “{family.name}”: {what}, p values adjusted by {_CORRECTIONS[plan.multiplicity]} over the pairs of "
            "arms on each target and cohort."
        )
    return " ".join(lines)


def _use(scope: Scope) -> str:
    plan, scored = scope.inputs.protocol.analysis, scope.inputs.scored
    lines = []
    if plan.operating_points:
        rules = named([_rule(rule) for rule in plan.operating_points])
        lines.append(
            "Thresholds were fixed on validation patients, out of fold where there are several folds "
            f"({rules}), and carried unchanged to test and external patients."
        )
    if scope.inputs.results.operating_points:
        lines.append("Proportions have Wilson intervals.")
    lines.append(
        "Calibration is by logistic regression on the logit of the score (intercept in the large, slope), with profile "
        "likelihood intervals, as the scores are"
        + (
            ", and after a logistic recalibration that was fitted on validation patients and carried unchanged."
            if scored is None or any(fit.reason is None for fit in scope.inputs.results.recalibrations)
            else "."
        )
        + " Net benefit weighs a false positive by the odds of the threshold risk."
    )
    return " ".join(lines)


def _caution(scope: Scope) -> str:
    plan, results = scope.inputs.protocol.analysis, scope.inputs.results
    lines = []
    if results.controls or results.stratified or results.added_values:
        lines.append(
            "Confounding was looked for by cross-validated ridge logistic regression on covariates alone, by AUROCs "
            "within strata, and by likelihood ratio tests of the score added to clinical covariates."
        )
    if results.baseline_differences:
        lines.append("Groups of patients are compared by standardised mean differences.")
    if plan.subgroups:
        lines.append(
            f"{'Subgroups named in advance' if scope.inputs.scored is None else 'Subgroups'}: "
            f"{named(plan.subgroups)}; heterogeneity is tested over known levels with at least 5 patients of each "
            "class, by Welch’s F test of the logits of their AUROCs with Satterthwaite degrees of freedom."
        )
    return " ".join(lines)


def _rule(rule: AtRule | str) -> str:
    if isinstance(rule, AtRule):
        return f"{rule.rule.removeprefix('at_')} {rule.value:g}"
    return "Youden’s index"
