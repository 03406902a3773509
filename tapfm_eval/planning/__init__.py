"""What a study will show and what it will cost, before any GPU is booked; needs no torch."""

from tapfm_eval.planning.costs import ArmCost as ArmCost
from tapfm_eval.planning.costs import EmbeddingCost as EmbeddingCost
from tapfm_eval.planning.costs import UnitCost as UnitCost
from tapfm_eval.planning.makespan import Makespan as Makespan
from tapfm_eval.planning.plan import Assumptions as Assumptions
from tapfm_eval.planning.plan import StudyPlan as StudyPlan
from tapfm_eval.planning.plan import plan_study as plan_study
from tapfm_eval.planning.precision import PrimaryPower as PrimaryPower
from tapfm_eval.planning.precision import TargetPrecision as TargetPrecision
from tapfm_eval.planning.probe import ArmProbe as ArmProbe
from tapfm_eval.planning.probe import read_probe as read_probe
from tapfm_eval.planning.storage import Reading as Reading
from tapfm_eval.planning.storage import Stored as Stored
