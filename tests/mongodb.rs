//! A real MongoDB server, read and put back over the wire: every document byte for byte, every index, view and option, at one
//! moment.
#![allow(clippy::unwrap_used)]

mod support;

use belay::component::mongodb::MongoError;
use belay::component::mongodb::wire::restore::{Incoming, RestorePlan, plan};
use belay::component::mongodb::wire::{Dumped, Files, Server, dump};
use belay::model::event::Cancel;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use support::servers::Mongod;

/// Keeps what is read in memory.
struct Memory;

impl Files for Memory {
    type File = Vec<u8>;
    type Stored = Vec<u8>;

    fn open(&self) -> Vec<u8> {
        Vec::new()
    }

    fn store(&self, file: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(file)
    }
}

/// What a snapshot has of each collection.
struct Taken {
    incoming: Vec<Incoming>,
    contents: BTreeMap<String, Vec<u8>>,
}

impl Taken {
    /// As a restore sees it: from the metadata's text.
    fn of(dumped: Dumped<Vec<u8>>) -> Self {
        let mut taken = Self { incoming: Vec::new(), contents: BTreeMap::new() };
        for each in dumped.collections {
            let text = each.collection.metadata();
            let collection = belay::component::mongodb::wire::Collection::from_metadata(
                &each.collection.name,
                &text,
            )
            .unwrap();
            assert_eq!(collection, each.collection, "{text}");
            taken.contents.extend(
                each.stored.map(|content| (collection.name.clone(), content)),
            );
            taken.incoming.push(Incoming { collection, documents: each.documents });
        }
        taken
    }

    fn fill(&self, server: &Server, plan: &RestorePlan) -> Result<(), MongoError> {
        let content = |name: &str| -> io::Result<Box<dyn Read + '_>> {
            Ok(Box::new(Cursor::new(self.contents[name].as_slice())))
        };
        plan.fill(server, &self.incoming, &content, &|_| ())
    }

    fn restore(&self, server: &Server, database: &str) {
        let plan = plan(database, &self.incoming, "job").unwrap();
        self.fill(server, &plan).unwrap();
        plan.swap(server).unwrap();
    }
}

fn read(server: &Server, database: &str) -> Result<Dumped<Vec<u8>>, MongoError> {
    dump(server, database, &Memory, &|_, _| (), &|_| ())
}

fn open(mongod: &Mongod, database: &str) -> Server {
    Server::open(&mongod.url(database), &Cancel::new()).unwrap()
}

#[test]
fn a_database_comes_back_as_it_was_here_and_under_another_name() {
    let mongod = Mongod::start();
    mongod.seed("appsmith", 1);
    let before = mongod.picture("appsmith");
    let server = open(&mongod, "appsmith");
    let dumped = read(&server, "appsmith").unwrap();
    assert!(dumped.moment.is_ok(), "{:?}", dumped.moment);
    let documents: u64 = dumped.collections.iter().map(|each| each.documents).sum();
    assert_eq!(documents, 12 + 2 + 8 + 8 + 1 + 1 + 60 + 216 + 36 + 1 + 50 + 40 + 2);
    let taken = Taken::of(dumped);

    mongod.python(
        "db = client['appsmith']\ndb.drop_collection('user'); db.application.delete_many({}); db.later.insert_one({})\ndb.drop_collection('activeApplications'); db.create_collection('laterView', viewOn='later'); db.newPage.drop_indexes()",
    );
    taken.restore(&server, "appsmith");
    assert_eq!(mongod.picture("appsmith"), before);
    // Where nothing is, too.
    mongod.python("client.drop_database('appsmith')");
    taken.restore(&server, "appsmith");
    assert_eq!(mongod.picture("appsmith"), before);
    taken.restore(&server, "another name");
    assert_eq!(mongod.picture("another name"), before);

    let again = read(&server, "appsmith").unwrap();
    for each in again.collections {
        let name = &each.collection.name;
        assert_eq!(each.stored.as_ref(), taken.contents.get(name), "{name}");
    }
}
