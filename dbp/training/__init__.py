"""Training: the loop, and what happens when numbers are not finite or ranks die."""
