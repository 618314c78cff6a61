"""`hyena scaling run | table`: loss against compute, over families, sizes and budgets."""
