"""The process as others see it: the launcher that has started it, and notes that tell what it does."""
