"""What users touch: Resonate, Context, Handle, Function, and the wiring of everything else."""
