"""dbp doctor: what ranks run on, whether they can train there, how fast, and what to mend."""

from dbp.doctor.examination import doctor
from dbp.doctor.findings import Finding

__all__ = ["Finding", "doctor"]
