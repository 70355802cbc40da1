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
use std::process::Child;

/// A port that is free now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
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
