"""The pages that operators look at: plain views and templates, on the admin's frame."""
