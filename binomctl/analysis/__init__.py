"""Errors against the exact meta-gradient, and the spectrum of the Hessians."""
