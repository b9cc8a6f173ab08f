"""What can be learnt from the twin by asking it many times; nothing that runs in a site imports from here."""
