"""The paper's experiments, one file each: compositions of the library, with the paper's numbers."""
