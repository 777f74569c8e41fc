"""Saving a run into its folder, resuming it from there, and stopping it."""
