"""The pages of the error codes; `esb check --explain` reads them."""
