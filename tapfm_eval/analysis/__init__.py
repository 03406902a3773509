"""Predictions to results, one module a question; `analyse` asks them all."""

from tapfm_eval.analysis.analyse import analyse as analyse
from tapfm_eval.analysis.analyse import shown_cases as shown_cases
from tapfm_eval.analysis.panels import Panel as Panel
from tapfm_eval.analysis.panels import panels_of as panels_of
from tapfm_eval.analysis.roc import mean_roc as mean_roc
from tapfm_eval.analysis.subgroups import levels_of as levels_of
