"""Model, rule and budget for data of one's own: settings that follow from the data."""
