"""Examine what ranks run on: whether they can train there, how fast, and what to fix (dbp doctor)."""

from dbp.doctor.examination import doctor
from dbp.doctor.findings import Finding

__all__ = ["Finding", "doctor"]
