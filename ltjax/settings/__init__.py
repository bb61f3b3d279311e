"""Settings: declared once each, with default, range and a line of help."""
