//! Docker's words: the Engine API's routes and types. Pure data.
