"""The version of dbp."""

VERSION = "0.1.0"
