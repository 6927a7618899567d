"""The pages that span contexts, and the way to all the others."""
