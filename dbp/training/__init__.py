"""The training loop, and what it does when numbers are not finite or ranks die."""
