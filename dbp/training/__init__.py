"""Training: the loop, and what happens when numbers are not finite or ranks die.

To add a reaction to costs or gradients that are not finite:

1. Add its name to NOT_FINITE_ACTIONS in dbp/config/settings.py, and its settings to `NotFinite` there.
2. Write it as a branch of `NotFinitePolicy.handle` in not_finite_policy.py. All ranks come there after the same step,
   with the same summed cost, and must decide alike.
3. What it must know after a resume is a field of `NotFiniteRecord` in dbp/run/not_finite.py, which each checkpoint has.
4. Describe it in docs/not_finite.md and docs/config.md.
5. Test it in tests/training/test_not_finite_policy.py: the same bits on any number of ranks, however the run is
   interrupted.
"""
