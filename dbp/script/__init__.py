"""Scripts of users: the hooks that importing dbp sets, and running a script as a rank of `dbp run`."""
