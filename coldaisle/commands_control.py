"""`coldaisle place` and `coldaisle actions`: asking the policies for a rank, and seeing or ending what is in force."""
