"""The command line: `resonate-aio serve | dev | invoke | tree | promises | tasks | schedules`."""
