//! A real MongoDB server, read and put back over the wire: every document byte for byte, every index, view and option, at one
//! moment.
#![allow(clippy::unwrap_used)]

mod support;

use belay::access::Access;
use belay::component::mongodb::MongoError;
use belay::component::mongodb::wire::restore::{Incoming, RestorePlan, look};
use belay::component::mongodb::wire::{Dumped, Files, Moment, Server, dump};
use belay::model::event::Cancel;
use belay::model::via::Via;
use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Cursor, Read};
use std::process::Stdio;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use support::servers::{self, Mongod};
use support::wait_until;

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
            taken.contents.extend(each.stored.map(|content| (collection.name.clone(), content)));
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
        let plan = look(server, database, &self.incoming, "job").unwrap();
        self.fill(server, &plan).unwrap();
        plan.swap(server).unwrap();
        plan.drop_old(server).unwrap();
    }
}

fn read(server: &Server, database: &str) -> Result<Dumped<Vec<u8>>, MongoError> {
    dump(server, database, &Memory, &|_, _| (), &|_| ())
}

/// From this host.
fn here() -> Access {
    Access::new(Via::local(), None, &Cancel::new())
}

fn open(mongod: &Mongod, database: &str) -> Server {
    Server::open(&mongod.url(database), &here(), &Cancel::new()).unwrap()
}

#[test]
fn a_database_comes_back_as_it_was_here_and_under_another_name() {
    comes_back(1);
}

#[test]
fn a_database_of_many_documents_comes_back_as_it_was() {
    comes_back(20);
}

fn comes_back(scale: u32) {
    let mongod = Mongod::start();
    mongod.seed("appsmith", scale);
    let before = mongod.picture("appsmith");
    let server = open(&mongod, "appsmith");
    let dumped = read(&server, "appsmith").unwrap();
    assert!(dumped.moment.is_ok(), "{:?}", dumped.moment);
    let documents: u64 = dumped.collections.iter().map(|each| each.documents).sum();
    // Of some there are as many at any scale; views have none.
    let counted = mongod.python(
        "db = client['appsmith']\nprint(sum(db[each['name']].count_documents({}) for each in db.list_collections() if each['type'] == 'collection' and not each['name'].startswith('system.')))",
    );
    assert_eq!(documents.to_string(), counted);
    assert!(scale > 1 || documents == 437, "{documents}");
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
    taken.restore(&server, "another_name");
    assert_eq!(mongod.picture("another_name"), before);

    let again = read(&server, "appsmith").unwrap();
    for each in again.collections {
        let name = &each.collection.name;
        assert_eq!(each.stored.as_ref(), taken.contents.get(name), "{name}");
    }
}

/// Does something at the first document that comes by, once, while the other readers go on.
fn read_and_at_first<T>(
    server: &Server,
    database: &str,
    act: impl Fn() -> T + Sync,
) -> Result<Dumped<Vec<u8>>, MongoError> {
    let once = Once::new();
    let tap = |_: &str, _: &bson::RawDocument| once.call_once(|| drop(act()));
    dump(server, database, &Memory, &tap, &|_| ())
}

fn names(dumped: &Dumped<Vec<u8>>) -> Vec<&str> {
    dumped.collections.iter().map(|each| each.collection.name.as_str()).collect()
}

#[test]
fn what_is_dropped_renamed_or_made_meanwhile_is_never_silently_empty() {
    let mongod = Mongod::start();
    let server = open(&mongod, "d");
    for (change, expected) in [
        ("db.b.drop()", vec!["a", "c"]),
        ("db.b.rename('z')", vec!["a", "c", "z"]),
        ("db.b.drop(); db.b.insert_one({'_id': 'another'})", vec!["a", "b", "c"]),
        ("db.y.insert_one({})", vec!["a", "b", "c", "y"]),
        ("db.b.create_index('n')", vec!["a", "b", "c"]),
        ("db.create_collection('v', viewOn='a')", vec!["a", "b", "c", "v"]),
    ] {
        mongod.python(
            "client.drop_database('d'); db = client['d']\nfor name in 'abc': db[name].insert_many([{'_id': i, 'n': i} for i in range(5000)])",
        );
        let act = || mongod.python(&format!("db = client['d']\n{change}"));
        let dumped = read_and_at_first(&server, "d", act).unwrap();
        assert_eq!(names(&dumped), expected, "{change}");
        assert!(dumped.moment.is_ok());
        Taken::of(dumped).restore(&server, "restored");
        assert_eq!(mongod.picture("restored"), mongod.picture("d"), "{change}");
    }
    // All the time.
    let number = AtomicU32::new(0);
    let tap = |_: &str, _: &bson::RawDocument| {
        let number = number.fetch_add(1, SeqCst);
        if number.is_multiple_of(10_000) {
            mongod.python(&format!("client['d']['new{number}'].insert_one({{}})"));
        }
    };
    let error = dump(&server, "d", &Memory, &tap, &|_| ()).unwrap_err();
    assert!(matches!(error, MongoError::KeepsChanging { .. }), "{error}");
    assert!(error.to_string().contains("was made"), "{error}");
}

#[test]
fn what_is_written_meanwhile_is_of_one_moment() {
    let mongod = Mongod::start();
    mongod.seed("d", 1);
    // Into one collection, then into the other: at any moment the second lacks one at most.
    let mut writer = mongod
        .python_command(
            "import itertools, time\ndb = client['d']\nfor i in itertools.count():\n    db.first.insert_one({'_id': i}); db.second.insert_one({'_id': i})\n    if i == 0: print('begun', flush=True)\n    time.sleep(0.001)",
        )
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(writer.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    let server = open(&mongod, "d");
    let written = || mongod.python("print(client['d'].second.estimated_document_count())");
    let written = || written().parse::<u64>().unwrap();
    let dumped = read_and_at_first(&server, "d", || {
        let before = written();
        wait_until("the writer to go on", || written() > before + 500);
    });
    writer.kill().unwrap();
    writer.wait().unwrap();
    let dumped = dumped.unwrap();
    let count = |name: &str| {
        let mut all = dumped.collections.iter();
        all.find(|each| each.collection.name == name).unwrap().documents
    };
    let (first, second) = (count("first"), count("second"));
    assert!(first == second || first == second + 1, "{first} and {second}");
    assert!(second + 500 < written(), "it was read while the writer went on");
}

#[test]
fn what_is_not_of_one_moment_says_so() {
    let alone = Mongod::start_with(&[]);
    alone.seed("d", 1);
    let server = open(&alone, "d");
    let dumped = read(&server, "d").unwrap();
    assert!(dumped.moment.as_ref().unwrap_err().contains("replica set"), "{:?}", dumped.moment);
    let before = alone.picture("d");
    Taken::of(dumped).restore(&server, "d");
    assert_eq!(alone.picture("d"), before);

    let short = Mongod::start();
    short.seed("d", 1);
    short.python("client.admin.command('setParameter', 1, minSnapshotHistoryWindowInSeconds=0)");
    let server = open(&short, "d");
    let act = || {
        short.python(
            "import time\nfor i in range(40):\n    client['other'].c.with_options(write_concern=pymongo.WriteConcern('majority')).insert_one({}); time.sleep(0.1)",
        )
    };
    let dumped = read_and_at_first(&server, "d", act).unwrap();
    assert!(dumped.moment.as_ref().unwrap_err().contains("History"), "{:?}", dumped.moment);
}

#[test]
fn each_way_to_fail_is_an_error_that_says_which() {
    let mongod = Mongod::start();
    mongod.seed("d", 1);
    let cancel = Cancel::new();
    let open_url = |url: &str| Server::open(url, &here(), &cancel).map(drop).unwrap_err();
    let secret = "s3cr:t@nothing";
    for url in
        ["", "http://x", "mongodb://", &format!("mongodb://u:{secret}@h/d"), "mongodb://h:99999/d"]
    {
        let error = open_url(url);
        assert!(matches!(error, MongoError::Address { .. }), "{url}: {error}");
        assert!(!format!("{error} {error:?}").contains("s3cr"), "{error:?}");
    }
    let error = open_url(&format!("mongodb://127.0.0.1:{}/d", servers::free_port()));
    assert!(matches!(error, MongoError::Unreachable { .. }), "{error}");
    mongod.python("client.admin.command('createUser', 'u', pwd='right', roles=['root'])");
    let error =
        open_url(&format!("mongodb://u:wrong@127.0.0.1:{}/d?authSource=admin", mongod.port));
    assert!(matches!(error, MongoError::Login { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("wrong"), "{error:?}");

    let server = open(&mongod, "d");
    let error = read(&server, "nothing").unwrap_err();
    assert!(error.hint().unwrap().contains("there are: admin"), "{error:?}");
    mongod.python("client['empty'].create_collection('c'); client['empty'].c.create_index('n')");
    let empty = read(&server, "empty").unwrap();
    assert_eq!((empty.collections.len(), empty.collections[0].documents), (1, 0));
    mongod.python("client['t'].create_collection('c', timeseries={'timeField': 't'})");
    let error = read(&server, "t").unwrap_err();
    assert!(matches!(error, MongoError::Unsupported { .. }), "{error}");

    let stopped = Cancel::new();
    let server = Server::open(&mongod.url("d"), &here(), &stopped).unwrap();
    let error = read_and_at_first(&server, "d", || stopped.cancel()).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    let server = open(&mongod, "d");
    let error = read_and_at_first(&server, "d", || mongod.kill()).unwrap_err();
    assert!(matches!(error, MongoError::Unreachable { .. }), "{error:?}");
}

#[test]
fn a_restore_that_is_stopped_anywhere_leaves_the_old_state_or_is_finished() {
    let mongod = Mongod::start();
    mongod.seed("d", 1);
    let server = open(&mongod, "d");
    let taken = Taken::of(read(&server, "d").unwrap());
    let wanted = mongod.picture("d");
    let change = "db = client['d']\ndb.user.delete_many({}); db.extra.insert_one({})";
    mongod.python(change);
    let present = mongod.picture("d");

    // A snapshot that lacks something.
    let broken = Taken {
        incoming: taken.incoming.clone(),
        contents: taken
            .contents
            .iter()
            .map(|(name, bytes)| {
                let cut = if name == "newPage" { bytes.len() - 7 } else { bytes.len() };
                (name.clone(), bytes[..cut].to_vec())
            })
            .collect(),
    };
    let plan = look(&server, "d", &broken.incoming, "one").unwrap();
    let error = broken.fill(&server, &plan).unwrap_err();
    assert!(error.to_string().contains("newPage"), "{error}");
    plan.abandon(&server).unwrap();
    assert_eq!(mongod.picture("d"), present);

    // Names that are moved already, in every combination that an interrupted swap leaves, and somebody who writes meanwhile.
    let plan = look(&server, "d", &taken.incoming, "two").unwrap();
    taken.fill(&server, &plan).unwrap();
    let since = server.now().unwrap();
    assert!(!plan.was_written(&server, since).unwrap());
    let error = plan.was_written(&server, Moment { time: 1, increment: 0 }).unwrap_err();
    assert!(error.to_string().contains("does not go back so far"), "{error}");
    let moved = plan.old.iter().find(|old| old.name == "application").unwrap();
    mongod.python(&format!("client['d'][{:?}].rename({:?})", moved.name, moved.other));
    let made = plan.collections.iter().find(|made| made.name == "application").unwrap();
    mongod.python(&format!("client['d'][{:?}].rename({:?})", made.other, made.name));
    mongod.python("client['d'].workspace.insert_one({}); client['d'].late.insert_one({})");
    for _ in 0..2 {
        plan.swap(&server).unwrap();
    }
    assert!(plan.was_written(&server, since).unwrap());
    assert_eq!(plan.aside(&server).unwrap().len(), plan.old.len() + 1);
    // What is kept is in no later dump.
    assert!(read(&server, "d").unwrap().collections.len() == taken.incoming.len());
    plan.drop_old(&server).unwrap();
    assert_eq!(mongod.picture("d"), wanted);
}

#[test]
fn a_collection_that_is_made_while_a_restore_goes_on_counts_as_written() {
    let mongod = Mongod::start();
    mongod.python("client['d'].a.insert_one({'_id': 1})");
    let server = open(&mongod, "d");
    let taken = Taken::of(read(&server, "d").unwrap());
    let plan = look(&server, "d", &taken.incoming, "job").unwrap();
    let since = server.now().unwrap();
    taken.fill(&server, &plan).unwrap();
    mongod.python("client['d'].late.insert_one({'_id': 'precious'})");
    plan.swap(&server).unwrap();
    assert!(plan.was_written(&server, since).unwrap());
    let aside = plan.aside(&server).unwrap();
    assert_eq!(aside.len(), 2, "{aside:?}");
    let kept = mongod.python("print([c.find_one()['_id'] for c in (client['d'][n] for n in client['d'].list_collection_names()) if '_late_' in c.name])");
    assert_eq!(kept, "['precious']");
}
