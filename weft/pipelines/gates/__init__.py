"""Quality gates: what a new version is expected to be before readers see it."""
