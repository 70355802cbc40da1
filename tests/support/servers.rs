//! Real servers for tests, each private to the test that started it: in a temporary directory, on a free port, stopped by its
//! process id when it is dropped. One that is not installed fails the test.

mod appsmith;
mod docker;
mod mongod;
mod platform;
mod postgres;
mod redis;
mod registry;
mod sshd;

pub use appsmith::Appsmith;
pub use docker::Docker;
pub use mongod::{Mongod, python_at, python_packages};
pub use platform::Platform;
pub use postgres::{PASSWORD as POSTGRES_PASSWORD, Postgres};
pub use redis::{PASSWORD as REDIS_PASSWORD, Redis};
pub use registry::Registry;
pub use sshd::Sshd;

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Child;
use std::sync::atomic::{AtomicU16, Ordering};

/// A port that is free, and stays so for whoever starts a server on it later, and again: no other test gets it while this process
/// lives, and it is none of those that connections get from the system.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Those that run at the same time begin far from each other.
    let begin = std::process::id().wrapping_mul(7919) % u32::from(COUNT);
    for _ in 0..COUNT {
        let next = u32::from(NEXT.fetch_add(1, Ordering::SeqCst));
        let port = FIRST + u16::try_from((begin + next) % u32::from(COUNT)).unwrap();
        let name = SocketAddr::from_abstract_name(format!("belay-test-port-{port}")).unwrap();
        let Ok(claim) = UnixListener::bind_addr(&name) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            // It is let go by the end of the process.
            std::mem::forget(claim);
            return port;
        }
    }
    panic!("no port is free");
}

/// A process of a server, ended with what it was started for.
pub struct Server(Child);

impl Server {
    pub fn id(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// Fails the test when the server ended by itself.
    #[track_caller]
    pub fn assert_runs(&mut self, log: &str) {
        if let Some(status) = self.0.try_wait().unwrap() {
            panic!("the server ended ({status}): {log}");
        }
    }

    fn stop(&mut self, signal: rustix::process::Signal) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal);
        let _ = self.0.wait();
    }
}
