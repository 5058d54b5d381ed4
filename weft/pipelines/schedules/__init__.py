"""Schedules: which run is due when, each of them once, by however many daemons."""
