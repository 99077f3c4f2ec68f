//! The command line: flags in, requests out, answers drawn.
