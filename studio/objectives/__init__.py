"""The papers' mathematics as pure functions: tensors in, tensors out, torch alone."""
