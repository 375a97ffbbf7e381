"""The small protocols that hold the house together, and the records passed between its parts.

B tasks in a meta-batch, K inner steps, d adapted parameters, S slots of an inner optimiser,
D = (S + 1) d; all vectors are flat tensors. s_k is the inner state, phi^k and the slots;
gamma_k = grad l_trn(phi^k); s_{k+1} = U_k(s_k, gamma_k; m), phi^{k+1} = phi^k - alpha M gamma_k
in the simplest case, equation (2b) of BinomGBML; H_k is the Hessian of l_trn at phi^k;
g = grad l_val(phi^K).
"""

from binomctl.contracts.adapted import Adapted, Expansion
from binomctl.contracts.data import (
    Bilevel,
    Dataset,
    Grouped,
    HasQueryLoss,
    MadeOfOthers,
    NamesClasses,
)
from binomctl.contracts.engine import Curvature, Descends, Engine, Forward, PullsBack
from binomctl.contracts.estimator import (
    Diagnosing,
    EstimatesError,
    Estimator,
    ExactAtOrder,
    Expands,
    FixedOnly,
    LearnsRule,
    LinearOnly,
    PlainOnly,
    Proximal,
    PseudoGradient,
    Remembers,
    RemembersAdjoints,
    Stationary,
)
from binomctl.contracts.inner import Adaptation, Support, Trajectory, Update
from binomctl.contracts.rule import (
    Directs,
    Draws,
    Linear,
    Regularises,
    Rule,
    Starts,
    WantsHead,
)
from binomctl.contracts.tracker import Tracker, Tracking

__all__ = [
    "Adaptation",
    "Adapted",
    "Bilevel",
    "Curvature",
    "Dataset",
    "Descends",
    "Diagnosing",
    "Directs",
    "Draws",
    "Engine",
    "EstimatesError",
    "Estimator",
    "ExactAtOrder",
    "Expands",
    "Expansion",
    "FixedOnly",
    "Forward",
    "Grouped",
    "HasQueryLoss",
    "LearnsRule",
    "Linear",
    "LinearOnly",
    "MadeOfOthers",
    "NamesClasses",
    "PlainOnly",
    "Proximal",
    "PseudoGradient",
    "PullsBack",
    "Regularises",
    "Remembers",
    "RemembersAdjoints",
    "Rule",
    "Starts",
    "Stationary",
    "Support",
    "Tracker",
    "Tracking",
    "Trajectory",
    "Update",
    "WantsHead",
]
