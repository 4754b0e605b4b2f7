# A remote creates nothing: it is what the store knows of one name, in the form that other modules accept.
