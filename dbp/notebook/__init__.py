"""Functions of a notebook on several ranks, in processes of their own."""
