"""The plugins that are shipped with esb, found through the same hooks as a stranger's."""
