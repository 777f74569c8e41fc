"""Breaks things: disks, files, processes; and looks at what is left. For the tests."""
