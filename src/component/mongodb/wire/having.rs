//! A few members of documents, for who wants to know something of an instance and not to copy it.

use super::Server;
use crate::component::mongodb::MongoError;
use bson::{Bson, Document, doc};
use serde_json::Value;
use std::time::Duration;

/// How long the server may look, in milliseconds: nobody waits longer for what only informs.
const MOST_MS: i32 = 20_000;

impl Server {
    /// Of the documents of a collection which have the member `has`, the members `fields` and nothing else, as relaxed Extended
    /// JSON; at most `most`. A collection that is not there has none.
    pub fn having(
        &self,
        database: &str,
        collection: &str,
        has: &str,
        fields: &[&str],
        most: u32,
    ) -> Result<Vec<Value>, MongoError> {
        let mut projection: Document =
            fields.iter().map(|field| ((*field).to_owned(), Bson::Int32(1))).collect();
        projection.insert("_id", 0);
        let command = doc! {
            "find": collection, "filter": { has: { "$exists": true } }, "projection": projection,
            "limit": i64::from(most), "maxTimeMS": MOST_MS,
        };
        let action = format!("look into the collection '{database}.{collection}'");
        let found = self.all_of(database, command, &action)?;
        Ok(found.into_iter().map(|one| Bson::Document(one).into_relaxed_extjson()).collect())
    }

    /// How many documents a collection has; zero where there is no such collection. It goes through all of them: what a server
    /// keeps in mind of their number is wrong after a crash.
    pub fn count_documents(
        &self,
        database: &str,
        collection: &str,
        limit: Duration,
    ) -> Result<u64, MongoError> {
        let command = doc! {
            "aggregate": collection, "pipeline": [{ "$count": "count" }], "cursor": {},
            "maxTimeMS": i64::try_from(limit.as_millis()).unwrap_or(i64::MAX).max(1),
        };
        self.counted(
            database,
            command,
            &format!("count the documents of '{database}.{collection}'"),
        )
    }
}
