"""A run is judged: beside real music, beside other models, and for what ails it."""
