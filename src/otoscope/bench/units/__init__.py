"""Units of work that many processes and machines share: plan, claim, do, look at.

A plan divides an extraction or a suite into units that can be done in any order, by any process that sees its folder,
and again after a kill. The documentation is docs/scale.md.

    plan_extraction, plan_suite    write a plan
    Worker                         claims units and does them
    Status                         what is done, running, missing and failed
"""

from otoscope.bench.units.extraction import plan_extraction
from otoscope.bench.units.folder import Layout, PlanError, PlanFolder
from otoscope.bench.units.status import Status
from otoscope.bench.units.studies import UnitError, plan_suite
from otoscope.bench.units.task import Summary
from otoscope.bench.units.unit import ExtractUnit, StudyUnit, Unit
from otoscope.bench.units.worker import Worker

__all__ = [
    "ExtractUnit",
    "Layout",
    "PlanError",
    "PlanFolder",
    "Status",
    "StudyUnit",
    "Summary",
    "Unit",
    "UnitError",
    "Worker",
    "plan_extraction",
    "plan_suite",
]
