"""Statistics of a clinical validation: pure functions on numpy arrays that return `Estimate`, `Comparison` or a record.

Public names are listed here and, with definitions and evidence, in docs/statistics.md and docs/statistics-auroc.md.
"""

# --- AUROCs: one, compared, many; interval, covariance ---
from tapfm_eval.statistics.claims import equivalence as equivalence
from tapfm_eval.statistics.claims import non_inferiority as non_inferiority
from tapfm_eval.statistics.claims import superiority as superiority
from tapfm_eval.statistics.compare import compare_auroc as compare_auroc
from tapfm_eval.statistics.covariance import AurocCovariance as AurocCovariance
from tapfm_eval.statistics.covariance import Heterogeneity as Heterogeneity
from tapfm_eval.statistics.covariance import auroc_covariance as auroc_covariance
from tapfm_eval.statistics.covariance import auroc_heterogeneity as auroc_heterogeneity
from tapfm_eval.statistics.covariance import heterogeneity as heterogeneity
from tapfm_eval.statistics.estimate import AurocVariance as AurocVariance
from tapfm_eval.statistics.estimate import auroc as auroc
from tapfm_eval.statistics.estimate import auroc_variance as auroc_variance
from tapfm_eval.statistics.macro import compare_macro_auroc as compare_macro_auroc
from tapfm_eval.statistics.macro import contrast as contrast
from tapfm_eval.statistics.macro import macro_auroc as macro_auroc
from tapfm_eval.statistics.macro import micro_auroc as micro_auroc
from tapfm_eval.statistics.partial import partial_auroc as partial_auroc
from tapfm_eval.statistics.records import Comparison as Comparison
from tapfm_eval.statistics.records import Estimate as Estimate
from tapfm_eval.statistics.unpaired import compare_auroc_unpaired as compare_auroc_unpaired

# --- everything else: operating points, calibration, net benefit, subgroups, multiplicity, planning (append below) ---
# isort: split
from tapfm_eval.statistics.calibration import Calibration as Calibration
from tapfm_eval.statistics.calibration import calibration as calibration
from tapfm_eval.statistics.chi_squared import ChiSquaredTest as ChiSquaredTest
from tapfm_eval.statistics.confounding import StratifiedAuroc as StratifiedAuroc
from tapfm_eval.statistics.confounding import Stratum as Stratum
from tapfm_eval.statistics.confounding import adjusted_auroc as adjusted_auroc
from tapfm_eval.statistics.confounding import stratified_auroc as stratified_auroc
from tapfm_eval.statistics.covariates_alone import AddedValue as AddedValue
from tapfm_eval.statistics.covariates_alone import added_value as added_value
from tapfm_eval.statistics.covariates_alone import covariate_auroc as covariate_auroc
from tapfm_eval.statistics.decision import DecisionCurve as DecisionCurve
from tapfm_eval.statistics.decision import NetBenefit as NetBenefit
from tapfm_eval.statistics.decision import net_benefit as net_benefit
from tapfm_eval.statistics.multiplicity import GatedFamily as GatedFamily
from tapfm_eval.statistics.multiplicity import adjust_p as adjust_p
from tapfm_eval.statistics.multiplicity import gatekeeping as gatekeeping
from tapfm_eval.statistics.operating_points import OperatingPoint as OperatingPoint
from tapfm_eval.statistics.operating_points import PairedOperatingPoints as PairedOperatingPoints
from tapfm_eval.statistics.operating_points import RuleOutRuleIn as RuleOutRuleIn
from tapfm_eval.statistics.operating_points import compare_operating_points as compare_operating_points
from tapfm_eval.statistics.operating_points import operating_point as operating_point
from tapfm_eval.statistics.operating_points import operating_point_from_counts as operating_point_from_counts
from tapfm_eval.statistics.operating_points import rule_out_rule_in as rule_out_rule_in
from tapfm_eval.statistics.planning import AurocPower as AurocPower
from tapfm_eval.statistics.planning import detectable_auroc as detectable_auroc
from tapfm_eval.statistics.planning import power_auroc as power_auroc
from tapfm_eval.statistics.planning import sample_size_auroc as sample_size_auroc
from tapfm_eval.statistics.planning_paired import PairedMoments as PairedMoments
from tapfm_eval.statistics.planning_paired import PairedPower as PairedPower
from tapfm_eval.statistics.planning_paired import binormal_moments as binormal_moments
from tapfm_eval.statistics.planning_paired import pilot_moments as pilot_moments
from tapfm_eval.statistics.planning_paired import power_paired_auroc as power_paired_auroc
from tapfm_eval.statistics.planning_paired import sample_size_paired_auroc as sample_size_paired_auroc
from tapfm_eval.statistics.planning_simulated import ExpectedInterval as ExpectedInterval
from tapfm_eval.statistics.planning_simulated import expected_interval as expected_interval
from tapfm_eval.statistics.planning_simulated import simulated_paired_power as simulated_paired_power
from tapfm_eval.statistics.precision_recall import PrecisionRecallCurve as PrecisionRecallCurve
from tapfm_eval.statistics.precision_recall import average_precision as average_precision
from tapfm_eval.statistics.precision_recall import precision_recall_curve as precision_recall_curve
from tapfm_eval.statistics.predictive_values import PredictiveValues as PredictiveValues
from tapfm_eval.statistics.predictive_values import likelihood_ratios as likelihood_ratios
from tapfm_eval.statistics.predictive_values import predictive_values as predictive_values
from tapfm_eval.statistics.proportions import mcnemar as mcnemar
from tapfm_eval.statistics.proportions import proportion as proportion
from tapfm_eval.statistics.recalibration import Recalibration as Recalibration
from tapfm_eval.statistics.recalibration import apply_recalibration as apply_recalibration
from tapfm_eval.statistics.recalibration import fit_recalibration as fit_recalibration
from tapfm_eval.statistics.reliability import ReliabilityBin as ReliabilityBin
from tapfm_eval.statistics.reliability import SmoothCurve as SmoothCurve
from tapfm_eval.statistics.subgroups import Pooled as Pooled
from tapfm_eval.statistics.subgroups import SubgroupLevel as SubgroupLevel
from tapfm_eval.statistics.subgroups import SubgroupPair as SubgroupPair
from tapfm_eval.statistics.subgroups import Subgroups as Subgroups
from tapfm_eval.statistics.subgroups import subgroup_auroc as subgroup_auroc
from tapfm_eval.statistics.thresholds import RocCurve as RocCurve
from tapfm_eval.statistics.thresholds import Threshold as Threshold
from tapfm_eval.statistics.thresholds import roc_curve as roc_curve
from tapfm_eval.statistics.thresholds import threshold_at as threshold_at
