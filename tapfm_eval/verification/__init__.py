"""Whether a run folder still says what its own inputs say: every hash and every number computed again."""

from tapfm_eval.verification.mismatch import Mismatch as Mismatch
from tapfm_eval.verification.verify import Verification as Verification
from tapfm_eval.verification.verify import verify_run as verify_run
