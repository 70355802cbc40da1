//! What should be, decided from evidence: pure functions without clock and I/O.

pub mod retention;
