//! Tar archives as streams of entries: the one parser and the one writer of the engine (rule R14).
//!
//! Knows headers (ustar, GNU, PAX) and nothing of files on disk.
