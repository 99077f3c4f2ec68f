//! An OCI runtime: bundle in, process out. plan → clone → steps → exec.
