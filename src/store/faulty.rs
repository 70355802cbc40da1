//! A store that fails on command, for tests: of each call it can be told to fail, before or after the call did its work.

use super::{FileKind, FileName, Listed, Operation, Store, StoreError};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How the chosen call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and an error is returned.
    Before,
    /// The work is done, and an error is returned all the same, as when an answer is lost on the way.
    After,
    /// From the chosen call on, every call fails, as when a disk is gone.
    Forever,
}

/// Wraps a store and fails its Nth call.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    calls: AtomicU64,
    failing_call: u64,
    fault: Fault,
}

impl FaultyStore {
    /// Fail the call numbered `failing_call`, counted from 1; 0 fails none.
    pub fn new(inner: Arc<dyn Store>, failing_call: u64, fault: Fault) -> Self {
        Self { inner, calls: AtomicU64::new(0), failing_call, fault }
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn call<T>(
        &self,
        operation: Operation,
        object: &dyn std::fmt::Display,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let chosen = self.failing_call != 0
            && (number == self.failing_call
                || self.fault == Fault::Forever && number > self.failing_call);
        if chosen {
            if self.fault == Fault::After {
                work()?;
            }
            let source = io::Error::other(format!("failed on command at call {number}"));
            return Err(StoreError { operation, object: object.to_string(), source });
        }
        work()
    }
}

impl Store for FaultyStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<(), StoreError> {
        self.call(Operation::Create, &self.location(), || self.inner.create())
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StoreError> {
        self.call(Operation::List, &kind.folder(), || self.inner.list(kind))
    }

    fn read(&self, name: FileName, limit: u64) -> Result<Vec<u8>, StoreError> {
        self.call(Operation::Read, &name, || self.inner.read(name, limit))
    }

    fn read_range(
        &self,
        name: FileName,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StoreError> {
        self.call(Operation::Read, &name, || self.inner.read_range(name, offset, length))
    }

    fn write(&self, name: FileName, bytes: &[u8]) -> Result<(), StoreError> {
        self.call(Operation::Write, &name, || self.inner.write(name, bytes))
    }

    fn remove(&self, name: FileName) -> Result<(), StoreError> {
        self.call(Operation::Remove, &name, || self.inner.remove(name))
    }

    fn remove_leftovers(&self) -> Result<(u64, u64), StoreError> {
        self.call(Operation::Remove, &"leftovers", || self.inner.remove_leftovers())
    }

    fn keep_reserve(&self) -> Result<(), StoreError> {
        self.call(Operation::Write, &"reserve", || self.inner.keep_reserve())
    }

    fn release_reserve(&self) -> Result<u64, StoreError> {
        self.call(Operation::Remove, &"reserve", || self.inner.release_reserve())
    }
}
