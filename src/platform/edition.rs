//! Which edition of Appsmith a database belongs to: that shows in the names of the classes that have migrated it.
//!
//! Both editions record what they have run in `mongockChangeLog`. The classes of the enterprise edition stand in the package
//! itself and have `EE` in their name; those of the community edition in its package `ce` (appsmith #41906).

/// The collection with the record.
pub const COLLECTION: &str = "mongockChangeLog";
/// The member of a document with the name of the class.
pub const MEMBER: &str = "changeLogClass";

const PACKAGE: &str = "com.appsmith.server.migrations.db.";

/// Whether a class is one of the enterprise edition's.
pub fn is_enterprise(class: &str) -> bool {
    class.strip_prefix(PACKAGE).is_some_and(|name| !name.contains('.') && name.contains("EE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editions_are_told_by_their_migrations() {
        assert!(is_enterprise("com.appsmith.server.migrations.db.Migration003EEAddLicense"));
        for class in [
            "com.appsmith.server.migrations.db.ce.Migration001AddSpecificEEThing",
            "com.appsmith.server.migrations.db.Migration001Something",
            "com.appsmith.server.migrations.DatabaseChangelog2",
            "",
        ] {
            assert!(!is_enterprise(class), "{class}");
        }
    }
}
