"""A model layer by layer: shapes, parameters, work and memory."""

from dbp.summary.model_summary import Summary, summary, summary_of

__all__ = ["Summary", "summary", "summary_of"]
