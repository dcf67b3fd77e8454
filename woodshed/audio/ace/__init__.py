"""ACE-Step 1.5: adapters that teach it a musician's own style."""
