"""Injection of faults into disks, files and processes, and checks of what is left. For the tests."""
