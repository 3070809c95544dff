"""What everything else stands on: errors, settings, commands and their results, waiting, safe text."""
