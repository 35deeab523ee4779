"""L2-regularised logistic regression, solved to its optimum.

For standardised features x_i [D] and targets y_i, the problem is

    f(W, b) = 1/n sum_i loss(W^T x_i + b, y_i) + penalty / 2 ||W||^2,

with the binary cross-entropy for each class by itself ("multi-label": C independent problems) or the softmax
cross-entropy ("multi-class": one problem). The intercept b is not penalised. With `penalty = 1 / (n C)` this is
scikit-learn's `LogisticRegression(C=C)`, whose objective is n C times ours.

The optimum does not depend on the scale of the features, on a learning rate or on a seed. It is found by a truncated
Newton method (Nash, "A survey of truncated-Newton methods", 2000): conjugate gradients solve each Newton system, a
backtracking line search sets the step. All classes take their steps together, so the work is in products of a feature
matrix with a matrix of C columns. A class that has converged takes no further steps.

Along the principal axes of the features the Hessian is nearly diagonal. Preconditioned there, conjugate gradients take
a few steps even where the variances of the features differ by many orders of magnitude (`Design`).
"""

from otoscope.ops.logistic.design import Design, NotFiniteError
from otoscope.ops.logistic.solver import RELATIVE_TOLERANCE, Solution, solve

__all__ = ["RELATIVE_TOLERANCE", "Design", "NotFiniteError", "Solution", "solve"]
