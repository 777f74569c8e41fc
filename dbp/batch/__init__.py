"""Batch jobs: a script for a scheduler from a config, checked before it waits in a queue, submitted, launched, watched."""
