//! The component `postgres`: databases of a PostgreSQL server, dumped by its own `pg_dump`.
//!
//! A dump is believed only after it was read to its end and found whole.

pub mod archive;
