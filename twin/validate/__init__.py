"""Agreement with what is known: each file here holds checks against one source; `agreement.run` runs them all."""
