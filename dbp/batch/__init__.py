"""Batch jobs: scripts for schedulers, checked and submitted; the launch of ranks; the status of a run."""
