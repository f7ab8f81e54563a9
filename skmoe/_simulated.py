"""Generated tables with something beside X and y: an exposure, or groups of rows."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, gammaln, log_softmax, xlogy
from sklearn.utils import Bunch, check_random_state

from skmoe._checks import check_count, check_positive
from skmoe._truth import LinearMixture

__all__ = ["ReportedClaims", "make_claims", "make_visits"]

# Slopes for age, power and bonus, then the intercept: log odds of being silent, and
# log claims a year. At 44 years, 77 kW and 5 years of bonus one driver in three is
# silent, and the others have a claim every other year.
SILENCE = np.array([0.0, 0.0, 0.35, -2.5])
RATE = np.array([-0.025, 0.012, 0.0, -0.5])

CLAIMS_DESCR = """Claims of car insurance, many of them never reported (simulated)

age     years of the driver
power   kilowatts of the engine
bonus   years without a claim that the premium is reduced for
years   that the policy has run (the exposure)
claims  that were reported (target)

Who has a bonus to lose pays small damages himself: some drivers are silent, the more
so the larger the bonus, and report nothing. The others report at a rate that falls
with age and rises with power, and that differs between drivers more than the columns
say (gamma-distributed), so that counts are negative binomial.
"""

# Slopes of the marker for months, severity and treatment, the intercept, the noise;
# and of the log odds of each course. The gate does not look at the months.
COURSES = {
    "recovers": ((-0.30, 0.8, 0.0, 12.0), 1.2, (0.0, -0.9, 2.0, 0.0)),
    "stays": ((0.0, 0.8, 0.0, 12.0), 1.2, (0.0, 0.0, 0.0, 0.5)),
    "worsens": ((0.25, 0.8, 0.0, 12.0), 1.2, (0.0, 0.7, -0.5, -0.3)),
}

VISITS_DESCR = """Repeated visits of patients, whose course is one of three (simulated)

months     since the first visit, which is at 0
severity   at the first visit, standard normal; the same in all rows of a patient
treatment  1 or 0; the same in all rows of a patient
marker     grams per litre (target)

All courses begin alike. The marker then falls (recovers), keeps its level (stays) or
rises (worsens), in a straight line with independent normal noise. A patient has one
course, drawn from a softmax of severity and treatment: treated patients recover more
often, severe cases worsen.
"""


@dataclass(frozen=True)
class ReportedClaims:
    """Law of reported claims: silent with probability s(x), else negative binomial.

    ``P(y) = s(x) [y = 0] + (1 - s(x)) NB(y; years * rate(x), theta)``.

    Attributes
    ----------
    theta : float
        Size of the negative binomial: its variance is ``mean + mean ** 2 / theta``.
    expert : ndarray of shape (n_samples,)
        0 for silent drivers, 1 for others.
    """

    theta: float
    expert: np.ndarray

    def silent_proba(self, X):
        """Return the probability of never reporting anything, (n_samples,)."""
        return expit(X[:, :3] @ SILENCE[:3] + SILENCE[3])

    def rate(self, X):
        """Return claims a year of drivers who report, (n_samples,)."""
        return np.exp(X[:, :3] @ RATE[:3] + RATE[3])

    def mean(self, X):
        """Return the expected number of reported claims, (n_samples,)."""
        return (1.0 - self.silent_proba(X)) * X[:, 3] * self.rate(X)

    def log_prob(self, X, y):
        """Return the log probability of each row in nats, (n_samples,)."""
        mean, theta, silent = X[:, 3] * self.rate(X), self.theta, self.silent_proba(X)
        ways = gammaln(y + theta) - gammaln(theta) - gammaln(y + 1.0)
        shares = theta * np.log(theta) + xlogy(y, mean)
        log_count = ways + shares - (y + theta) * np.log(mean + theta)
        with np.errstate(divide="ignore"):
            log_silent = np.log(silent * (y == 0))
        return np.logaddexp(log_silent, np.log1p(-silent) + log_count)


def make_claims(n_samples=2000, *, theta=2.0, random_state=None, return_X_y=False):
    """Draw a table of insurance claims with exposure and too many zeros.

    Age is uniform on (18, 70) years, power on (40, 115) kilowatts, bonus on (0, 10)
    years, and a policy has run for 0.2 to 4 years. The probability that a driver is
    silent is ``expit(0.35 bonus - 2.5)``; others report at a yearly rate of
    ``exp(-0.5 - 0.025 age + 0.012 power)``, and the number is negative binomial of
    size theta.

    Parameters
    ----------
    n_samples : int
    theta : float, default=2.0
        Size of the negative binomial; the larger, the closer to Poisson.
    random_state : int, RandomState instance or None
    return_X_y : bool, default=False

    Returns
    -------
    table : Bunch
        With the attributes

        - ``data``: ndarray of shape (n_samples, 4); the last column is the exposure;
        - ``target``: ndarray of shape (n_samples,), reported claims;
        - ``feature_names``, ``target_names``: lists of str;
        - ``truth``: the law, with ``log_prob(X, y)``, ``mean(X)``, ``rate(X)`` and
          ``silent_proba(X)``;
        - ``DESCR``: str, the columns and what happens.

        If `return_X_y`, the tuple ``(data, target)`` instead.
    """
    check_count("n_samples", n_samples)
    check_positive("theta", theta)
    rng = check_random_state(random_state)
    low, high = np.array([[18.0, 40.0, 0.0, 0.2], [70.0, 115.0, 10.0, 4.0]])
    X = rng.uniform(low, high, size=(n_samples, 4))
    truth = ReportedClaims(float(theta), np.empty(0, dtype=int))
    reports = (rng.uniform(size=n_samples) >= truth.silent_proba(X)).astype(int)
    frailty = rng.gamma(theta, 1.0 / theta, size=n_samples)
    y = (reports * rng.poisson(X[:, 3] * truth.rate(X) * frailty)).astype(float)
    if return_X_y:
        return X, y
    return Bunch(
        data=X,
        target=y,
        feature_names=["age", "power", "bonus", "years"],
        target_names=["claims"],
        truth=ReportedClaims(float(theta), reports),
        DESCR=CLAIMS_DESCR,
    )


def make_visits(n_subjects=120, *, random_state=None, return_X_y=False):
    """Draw repeated measurements: a few visits of each patient, one course for all.

    A patient comes at month 0 and 2 to 7 times more, at months uniform on (0, 24).
    Severity is standard normal, every other patient is treated on average. A softmax
    of both draws the course of the patient (recovers, stays, worsens), and the marker
    of each visit is linear in months and severity with normal noise of 1.2 g/l. The
    law of a single row is a `LinearMixture`; the rows of a patient share its expert.

    Parameters
    ----------
    n_subjects : int
    random_state : int, RandomState instance or None
    return_X_y : bool, default=False

    Returns
    -------
    table : Bunch
        With the attributes

        - ``data``: ndarray of shape (n_samples, 3), rows of a patient in order of time;
        - ``target``: ndarray of shape (n_samples,), the marker in grams per litre;
        - ``groups``: ndarray of int, of shape (n_samples,), the patient of each row;
        - ``feature_names``, ``target_names``: lists of str;
        - ``course``: ndarray of str, of shape (n_samples,), the patient's course;
        - ``course_names``: list of str;
        - ``truth``: LinearMixture, the law of a row, experts in the order of
          ``course_names``;
        - ``DESCR``: str, the columns and what the courses are.

        If `return_X_y`, the tuple ``(data, target)`` instead.
    """
    check_count("n_subjects", n_subjects)
    rng = check_random_state(random_state)
    n_visits = 1 + rng.randint(2, 8, size=n_subjects)
    patient = np.repeat(np.arange(n_subjects), n_visits)
    months = rng.uniform(0.0, 24.0, size=patient.size)
    months[np.cumsum(n_visits) - n_visits] = 0.0
    months = months[np.lexsort((months, patient))]
    severity = rng.standard_normal(n_subjects)
    treatment = (rng.uniform(size=n_subjects) < 0.5).astype(float)
    X = np.column_stack([months, severity[patient], treatment[patient]])
    marker, gate = (np.array([law[i] for law in COURSES.values()]) for i in (0, 2))
    noise = np.array([law[1] for law in COURSES.values()])
    # One draw a patient, by Gumbel's way: the greatest perturbed logit.
    own = np.column_stack([np.zeros(n_subjects), severity, treatment])
    logit = log_softmax(own @ gate[:, :-1].T + gate[:, -1], axis=1)
    expert = (logit + rng.gumbel(size=logit.shape)).argmax(axis=1)[patient]
    truth = LinearMixture(
        gate[:, :-1], gate[:, -1], marker[:, :-1], marker[:, -1], expert, noise
    )
    mean = truth.expert_mean(X)[np.arange(patient.size), expert]
    y = mean + noise[expert] * rng.standard_normal(patient.size)
    if return_X_y:
        return X, y
    return Bunch(
        data=X,
        target=y,
        groups=patient,
        feature_names=["months", "severity", "treatment"],
        target_names=["marker"],
        course=np.array(list(COURSES))[expert],
        course_names=list(COURSES),
        truth=truth,
        DESCR=VISITS_DESCR,
    )
