"""What a comparison found: its figures with intervals, report.json and report.html. Torch-free."""
