"""A run plays: prompts, the decode loop and what guides it, takes, and the choice among them."""
