"""The stages of a rank's work, in the order in which a report draws them; style.css has a color for each."""

from dbp.parallel import Stage

STAGES = tuple(stage.label for stage in Stage)
