"""The parts of `coverage.py`: jobs with limits, what each tool does in one, and the table."""
