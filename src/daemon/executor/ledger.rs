//! What of the queue is written into the catalog, one change at a time. What is so and could not be written when it became so
//! is written before anything else is: no job that has ended comes back because the disk was full just then.
//!
//! Whoever changes what waits or runs holds the ledger meanwhile; whoever only looks needs nothing of it.

use crate::catalog::{Catalog, CatalogError, Delivery, Entry, Handled};

pub(in crate::daemon) struct Ledger {
    pub(super) catalog: Catalog,
    /// In their order.
    unwritten: Vec<Entry>,
}

impl Ledger {
    pub(super) fn new(catalog: Catalog) -> Self {
        Self { catalog, unwritten: Vec::new() }
    }

    /// Write these, and all that could not be written before: all or nothing.
    pub(super) fn put(&mut self, entries: &[&Entry]) -> Result<(), CatalogError> {
        let all: Vec<&Entry> = self.unwritten.iter().chain(entries.iter().copied()).collect();
        if !all.is_empty() {
            self.catalog.put_entries(&all)?;
            self.unwritten.clear();
        }
        Ok(())
    }

    /// The same of what has happened already, whether it can be written now or not.
    pub(super) fn keep(&mut self, entries: &[&Entry]) -> Result<(), CatalogError> {
        self.put(entries).inspect_err(|_| {
            self.unwritten.extend(entries.iter().map(|entry| (*entry).clone()));
        })
    }

    /// What a schedule is to do.
    pub(super) fn put_scheduled(
        &mut self,
        subject: &str,
        handled: &Handled,
        entry: Option<&Entry>,
        told: &[Delivery],
    ) -> Result<(), CatalogError> {
        self.put(&[])?;
        self.catalog.put_scheduled(subject, handled, entry, told)
    }
}
