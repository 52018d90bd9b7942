"""How a command runs: grammar, checks, jobs, runners."""
