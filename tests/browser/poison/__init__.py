"""An app with a policy that one order's event kills: only the stacks of browser tests install it."""
