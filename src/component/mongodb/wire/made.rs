//! What another program has made of a collection, compared with what it should be.

use super::restore::Incoming;
use super::{Server, says};
use crate::component::mongodb::MongoError;
use bson::{Bson, Document, doc};
use std::collections::BTreeMap;

/// What servers of different versions write of the same collection or index, or leave away.
const PASSING: [&str; 4] = ["autoIndexId", "background", "ns", "v"];
const EXPIRES: &str = "expireAfterSeconds";

impl Server {
    /// An error unless the collection `fresh` holds all that comes back: as many documents, the same options, the same indexes.
    pub(in crate::component::mongodb) fn ensure_made(
        &self,
        database: &str,
        fresh: &str,
        Incoming { collection, documents }: &Incoming,
    ) -> Result<(), MongoError> {
        let name = &collection.name;
        let not = |reason: &str| Err(MongoError::NotRestored(format!("'{name}' {reason}")));
        let action = format!("look at the new collection '{database}.{name}'");
        let command = doc! { "listCollections": 1, "filter": { "name": fresh } };
        let listed = self.all_of(database, command, &action)?;
        let Some(listed) = listed.first().filter(|listed| says(listed, "type", "collection"))
        else {
            return not("is not there");
        };
        let options = listed.get_document("options").cloned().unwrap_or_default();
        if lasting(&options) != lasting(&collection.options) {
            return not("has other options");
        }
        let indexes = self.indexes(database, fresh)?;
        if by_name(&indexes) != by_name(&collection.indexes) {
            return not("has other indexes");
        }
        let count = doc! { "aggregate": fresh, "pipeline": [{ "$count": "count" }], "cursor": {} };
        let counted = self.counted(database, count, &action)?;
        // The server deletes what has expired by now, and nothing else.
        let expires = indexes.iter().chain([&options]).any(|each| each.contains_key(EXPIRES));
        if counted == *documents || expires && counted < *documents {
            return Ok(());
        }
        not(&format!("has {counted} documents, and should have {documents}"))
    }
}

fn by_name(indexes: &[Document]) -> BTreeMap<&str, BTreeMap<&str, String>> {
    let named = |index| (Document::get_str(index, "name").unwrap_or_default(), lasting(index));
    indexes.iter().map(named).collect()
}

fn lasting(document: &Document) -> BTreeMap<&str, String> {
    let fields = document.iter().filter(|(name, _)| !PASSING.contains(&name.as_str()));
    fields.map(|(name, value)| (name.as_str(), plain(value))).collect()
}

/// How a value reads where numbers of all types are alike, as they are to the server. The order of fields counts: a key has one.
fn plain(value: &Bson) -> String {
    match value {
        Bson::Int32(number) => f64::from(*number).to_string(),
        Bson::Int64(number) => (*number as f64).to_string(),
        Bson::Double(number) => number.to_string(),
        Bson::Array(values) => format!("{:?}", values.iter().map(plain).collect::<Vec<_>>()),
        Bson::Document(document) => {
            let fields = document.iter().map(|(name, value)| (name, plain(value)));
            format!("{{{:?}}}", fields.collect::<Vec<_>>())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_alike_whatever_version_wrote_them() {
        let index = doc! { "v": 2, "key": { "a": 1, "b": -1 }, "name": "i", EXPIRES: 5 };
        let is_same = |other: Document| by_name(std::slice::from_ref(&index)) == by_name(&[other]);
        assert!(is_same(
            doc! { "name": "i", "key": { "a": 1.0, "b": -1_i64 }, "background": true, EXPIRES: 5_i64 }
        ));
        for other in [
            doc! { "key": { "b": -1, "a": 1 }, "name": "i", EXPIRES: 5 },
            doc! { "key": { "a": 1, "b": 1 }, "name": "i", EXPIRES: 5 },
            doc! { "key": { "a": 1, "b": -1 }, "name": "i" },
            doc! { "key": { "a": 1, "b": -1 }, "name": "i", EXPIRES: 5, "unique": true },
            doc! { "key": { "a": 1, "b": -1 }, "name": "j", EXPIRES: 5 },
        ] {
            assert!(!is_same(other.clone()), "{other}");
        }
    }
}
