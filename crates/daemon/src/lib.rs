//! The service: HTTP in, engine verbs out.
