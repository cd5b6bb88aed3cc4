"""Efficiency losses: read the ledger, return a scalar."""
