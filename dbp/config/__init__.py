"""The settings of a run, and the TOML files that hold them.

To add a setting:

1. Add a field to the class of its section, which is in settings.py, and in data.py for [data], with a line in the
   docstring. from_table.py checks its type; check its range in `__post_init__`, with the functions of dbp/checks.py.
2. A section of its own also needs a field of `Settings`, an entry in SECTIONS, and its class among the names that
   dbp/__init__.py exports.
3. Add its row to docs/config.md; tests/test_docs.py compares that page with the classes.
4. If a run may resume with another value, add the key to MAY_DIFFER in dbp/saving/comparison.py.
5. Test its mistakes in tests/config/test_toml.py, and its effect with the package that has it.
"""
