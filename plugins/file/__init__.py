"""Files: a source that watches a folder and a target that writes into one."""
