"""What everything else uses: errors, settings, commands and their results, waiting, safe text."""
