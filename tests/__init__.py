"""Tests of dbp: a folder for each of its packages, and what concerns all of them beside."""
