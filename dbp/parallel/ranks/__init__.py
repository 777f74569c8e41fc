"""The ranks of a job: where they run, how they communicate, and what happens when one fails."""
