"""`hyena scaling`: loss against compute, over families, sizes and budgets."""
