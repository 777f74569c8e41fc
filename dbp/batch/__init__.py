"""Batch jobs: a script for a scheduler, checked before it waits in a queue; submitting, launching, status."""
