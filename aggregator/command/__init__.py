"""The `sangam` command, one file per group of verbs; the only place that reads the clock and prints."""
