"""Pictures and tables of runs, made from the files in their folders: the report, the plot and the comparison.

record.py reads a run's folder, of which nothing is trusted: what is damaged or missing is named, and the rest is shown.

To add a part of the report:

1. Write a module with a function that takes a RunRecord and returns the part as Markup, empty if the run has nothing
   for it. Build it with `tag`, which escapes all text.
2. Add it to `of_one_run` in page.py, and the classes that it needs to style.css.
3. Test it in tests/report, also with what a hostile folder may hold, and look at it: light, dark, on a phone, printed.
"""
