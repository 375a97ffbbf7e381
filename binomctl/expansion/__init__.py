"""Everything an estimator may make of the factors A_k: expansions, exact steps, what deflation
leaves, weights of orders, and estimates of what was neglected."""

from binomctl.expansion.binomial import (
    binomial_adjoints,
    binomial_expansion,
    check_order,
    passed_by,
    scaled_alpha,
)
from binomctl.expansion.conjugate import conjugate_gradients
from binomctl.expansion.deflation import deflated, krylov
from binomctl.expansion.elementary import (
    combine,
    elementary_rows,
    elementary_sums,
    weighed,
    weighed_adjoints,
)
from binomctl.expansion.kept import check_kept, exactly, kept_adjoints, kept_expansion
from binomctl.expansion.levels import until
from binomctl.expansion.neglected import error_estimate, estimated_error
from binomctl.expansion.quadrature import quadrature_adjoints
from binomctl.expansion.segments import krylov_adjoints

__all__ = [
    "binomial_adjoints",
    "binomial_expansion",
    "check_kept",
    "check_order",
    "combine",
    "conjugate_gradients",
    "deflated",
    "elementary_rows",
    "elementary_sums",
    "error_estimate",
    "estimated_error",
    "exactly",
    "kept_adjoints",
    "kept_expansion",
    "krylov",
    "krylov_adjoints",
    "passed_by",
    "quadrature_adjoints",
    "scaled_alpha",
    "until",
    "weighed",
    "weighed_adjoints",
]
