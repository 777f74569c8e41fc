"""A first config for data: what the data holds, and a config with a model and a loss that suit it."""

from dbp.starter.config_text import config_text
from dbp.starter.data_summary import DataSummary, summary_of

__all__ = ["DataSummary", "config_text", "summary_of"]
