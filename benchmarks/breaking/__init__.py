"""Breaks things: disks, files, processes; and looks at what is left. For benchmarks/faults.py and the tests."""
