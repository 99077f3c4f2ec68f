//! The program of the embedded image, as bytes.
