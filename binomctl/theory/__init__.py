"""The theorems as plain numbers, and a search for what violates them; no torch."""
