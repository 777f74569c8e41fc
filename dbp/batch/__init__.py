"""Batch jobs: a script for a scheduler from a config, checked before it waits in a queue, and submitted."""

from dbp.batch.request import Request
from dbp.batch.submit import submit

__all__ = ["Request", "submit"]
