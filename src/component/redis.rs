//! The component `redis`: all databases of a server as one RDB file, by `redis-cli` where the instance lives.
//!
//! The file is walked to its end while it streams by, every object of it, and its sum is compared. A restore flushes the server,
//! or also loads back what is more than a cache, by `RESTORE`.

mod dump;
mod error;
pub mod rdb;
mod restore;
mod server;

pub use self::dump::{Dumped, RedisDetails, dump};
pub use self::error::RedisError;
pub use self::restore::Loaded;
pub use self::server::Server;

/// Whether a key is one that may be lost: its name begins with one of these.
pub fn is_disposable(name: &[u8], disposable: &[String]) -> bool {
    disposable.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}
