"""What any floor may use: files, readers of our own formats, progress, times, SARIF."""
