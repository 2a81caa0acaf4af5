"""Cases that schemathesis makes of the OpenAPI document of the review page, valid and invalid.

Names in paths are those of a session that exists, with a field and cells, in most cases: otherwise
every answer would be "not found". Used by ``benchmarks.web`` and by the tests.
"""

import contextlib
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

EVENTS = "/api/sessions/{session}/events"  # goes on until the client leaves


@dataclass
class Outcome:
    """What the cases were answered with."""

    statuses: Counter = field(default_factory=Counter)
    reached: set = field(default_factory=set)
    failures: list = field(default_factory=list)

    @property
    def n(self):
        """Number of cases."""
        return sum(self.statuses.values())


def attack(schema, known, n_each, *, seed=0, **call):
    """Send valid and invalid cases of each operation; return the Outcome.

    Parameters
    ----------
    schema : schemathesis schema
        The OpenAPI document, with the server or the application behind it.
    known : callable
        Returns values of path parameters that exist now, by the path: deleting a session must not
        take the one of the other cases away.
    n_each : int
        Cases of each operation, a third of them invalid by design.
    seed : int
        Of the cases.
    **call
        For ``Case.call``.
    """
    from schemathesis import GenerationMode

    outcome = Outcome()
    operations = [found.ok() for found in schema.get_all_operations()]
    # what ends a session or closes it for changes comes last
    last = ("delete", "/signature", "/reopen")
    operations.sort(key=lambda o: any(x in f"{o.method.lower()} {o.path}" for x in last))
    parts = {GenerationMode.POSITIVE: n_each - n_each // 3, GenerationMode.NEGATIVE: n_each // 3}
    for operation in operations:
        if operation.path == EVENTS:
            continue
        for mode, n in parts.items():
            _cases(operation, mode, known, call, outcome, n=n, seed=seed)
    return outcome


def _cases(operation, mode, known, call, outcome, *, n, seed):
    """Send n cases of one operation."""
    import hypothesis
    from hypothesis import HealthCheck, Phase, strategies

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=n,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(data=strategies.data())
    def one(data):
        names = {}
        if data.draw(strategies.integers(0, 4)):
            here = known(operation.path, operation.method).items()
            names = {k: v for k, v in here if f"{{{k}}}" in operation.path}
        strategy = operation.as_strategy(generation_mode=mode, path_parameters=names or None)
        _sent(data.draw(strategy), operation, call, outcome)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # nothing invalid can be made of an operation without parameters
        with contextlib.suppress(hypothesis.errors.Unsatisfiable):
            one()


def _sent(case: Any, operation: Any, call: dict[str, Any], outcome: Outcome) -> None:
    name = f"{operation.method.upper()} {operation.path}"
    response = case.call(headers={"X-Hemaest": "1"}, **call)
    outcome.statuses[response.status_code] += 1
    if response.status_code < 300:
        outcome.reached.add(name)
    if response.status_code >= 500:
        sent = {k: v for k, v in case.as_transport_kwargs().items() if v}
        outcome.failures.append((name, response.status_code, str(sent)[:800]))
