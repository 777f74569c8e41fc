"""What a run is: its settings, and the TOML in which they are written."""
